"""What client tools need to be told: data, and functions from it to text. docs/clients.md"""
