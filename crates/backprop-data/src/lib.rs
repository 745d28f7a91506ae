//! Data sources, formats, order and batching of the backprop training engine
