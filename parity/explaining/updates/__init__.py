"""Updates made again from a run's own gradients, and what two runs' updates differ in.

Read in this order:

- ``sides``: the two runs, each with the optimizer that it says;
- ``given``: the gradients and the learning rates that an optimizer gets;
- ``rules``: optimizers that a watcher reads and ``parity.spec`` has no words for;
- ``fits``: a sample of a run's updates, and the numbers that follow from one optimizer's rule;
- ``played`` and ``remade``: a run's updates made again, right and with each mistake of the catalogue;
- ``numbers``: the numbers, the clipping and the schedule that a run's optimizer has else;
- ``compared`` and ``decays``: two runs' numbers held against each other, and put into words;
- ``candidates``, ``linear``, ``inferred`` and ``kinds``: which optimizer a run has that says none, from its updates
  alone, and what two of them differ in;
- ``optimizers``: all of this, in the order in which it is tried;
- ``clipping``, ``factors`` and ``statistics``: gradients, losses and running statistics, where no optimizer is asked.
"""
