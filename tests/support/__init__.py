"""What several tests need: wheels, environments and hosts in processes of their own."""
