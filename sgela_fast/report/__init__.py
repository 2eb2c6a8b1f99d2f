"""One page of HTML with everything that an evaluation or a reproduction has found."""
