//! Test tools of the backprop training engine: gradient checker, random graphs, plan checker
