"""Any carrier as a transport of pipecat."""
