//! CPU kernels of the backprop training engine, on plain memory: knows no graph
