"""Published problems as data, and measurements of this package against its peers."""
