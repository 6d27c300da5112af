"""The programs people use, run head-less against a gateway and a scripted upstream; docs/clients.md."""
