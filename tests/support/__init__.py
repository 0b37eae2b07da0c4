"""Real services, browsers and machines for the tests."""
