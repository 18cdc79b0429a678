"""Speech on the line: engines that hear and speak, and whose turn it is. No engine lives here; they are plugins."""
