"""What is measured, a module for each part; each returns figures by the name of their section."""
