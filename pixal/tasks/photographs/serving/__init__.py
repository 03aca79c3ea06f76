"""What ``pixal serve`` shows of photographs: components, and the pictures of their parts."""
