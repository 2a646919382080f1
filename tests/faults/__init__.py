"""Every fault of the network and of servers, for store and retrieve: what is reported is what is there."""
