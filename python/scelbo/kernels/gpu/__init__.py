"""The likelihoods' loops for NVIDIA and AMD GPUs, as Triton kernels (Triton comes with PyTorch there): one launch where torch takes dozens.

Counts come dense: a minibatch is small beside a GPU's memory, and its first layer's product reads it so as well. Without a GPU the
kernels can be tried with ``TRITON_INTERPRET=1``.
"""
