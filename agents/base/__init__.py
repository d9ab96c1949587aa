"""What agents share: acting, learning, experience."""
