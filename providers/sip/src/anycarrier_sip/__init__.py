"""SIP and RTP for anycarrier: trunks, PBXs and softphones."""
