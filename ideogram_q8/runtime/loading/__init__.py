"""A variant -> its weights by name -> networks -> a model on a device, with blocks that may only visit it."""
