"""Batched work on a GPU: the choice of device, batches, exact distances and tile bounds.

Everything here takes and returns what its counterpart for the CPU does. Integers are the same bit
for bit; numbers in floating point lie within a stated bound. All of it also runs on torch's CPU
device, where its tests are.
"""
