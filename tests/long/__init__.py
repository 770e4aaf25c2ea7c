"""What takes minutes: run by `.ci/long`, and in small by the tests beside it."""
