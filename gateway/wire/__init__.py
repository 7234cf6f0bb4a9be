"""What bytes mean. Pure: no await, no clock, no socket."""
