"""Trade in signed routing information over L402, between nodes that need not trust each other."""
