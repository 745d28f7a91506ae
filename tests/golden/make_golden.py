"""Writes every golden file beside this script. See README.md for the versions and how to rerun."""

import torch

import init_statistics
import networks
import optimizers
import single_layers
import single_layers_sequence
import single_layers_spatial
import single_losses
import ties


def main():
    # One thread: reductions then have one order, and a rerun gives the same bits on the same machine.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for part in (networks, ties, single_layers, single_layers_spatial, single_layers_sequence, single_losses, optimizers, init_statistics):
        part.make()


if __name__ == "__main__":
    main()
