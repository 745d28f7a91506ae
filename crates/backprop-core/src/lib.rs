//! Graph, reverse-mode differentiation, passes, planner and executors of the backprop training engine
