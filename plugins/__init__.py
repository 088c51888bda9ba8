"""The running example: an order, from payment over stock to a parcel, in five participants."""
