"""Energies and samplers of TorchEBM as plugins of ebmcore; ebmcore knows nothing of them."""
