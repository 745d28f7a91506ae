//! How kernels are formed, linked and placed; and allocations are counted, for a step must make none.

use super::{
    Link, Native, Options,
    assemble::{Settings, assemble},
    code::Step,
};
use crate::{
    Builder, DType, HostTensor, Type,
    exec::{Program, Store},
    graph::Role,
    op::{Pad, Reducer, ScanSpec, Window, scan},
    pass::chain::Limits,
};
use backprop_kernels::Isa;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting by thread.
struct Counting;

// SAFETY: everything is handed to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MADE.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(address, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_step_allocates_nothing() {
    let f32 = |shape: &[usize]| Type::new(DType::F32, shape);
    let b = Builder::new();
    let (x, w) = (b.input("x", Role::Data, f32(&[6, 8, 40])), b.input("w", Role::State, f32(&[40, 40])));
    let spec = ScanSpec { length: 6, reverse: false };
    let (last, all) = scan(&b, spec, &[w], &[b.zeros(f32(&[8, 40]))], &[x], |constants, carried, slices| {
        let next = (slices[0].linear(constants[0]) + carried[0]).tanh();
        (vec![next], vec![next])
    });
    let loss = (all[0].transpose(&[2, 0, 1]) * 2.0).sum_all() + last[0].max(&[0]).sum_all();
    b.output("w", Role::State, w - loss.grad(&[w])[0]);
    b.output("loss", Role::Data, loss);
    // One thread: what runs elsewhere would be counted elsewhere.
    let native = Native::new(1, Isa::detect());
    for options in [Options::default(), Options { poison: true, ..Options::default() }] {
        let mut program = native.with(options).build(&b.with_graph(Clone::clone)).unwrap();
        let mut store = Store::new();
        store.insert("w", HostTensor::zeros(f32(&[40, 40])));
        let mut outputs = program.signature().output_buffers();
        let data = HostTensor::zeros(f32(&[6, 8, 40]));
        program.run(&mut store, &[&data], &mut outputs).unwrap();
        let before = MADE.with(Cell::get);
        program.run(&mut store, &[&data], &mut outputs).unwrap();
        assert_eq!(MADE.with(Cell::get) - before, 0);
    }
    let before = MADE.with(Cell::get);
    drop(vec![1u8; 100]);
    assert!(MADE.with(Cell::get) > before, "the counter counts");
}

/// Normalises [64, 32] by column; the names of the kernels.
fn kernels_of_a_norm(keep_centred: bool) -> Vec<String> {
    let b = Builder::new();
    let x = b.input("x", Role::Data, Type::new(DType::F32, [64, 32]));
    let y = x.tanh();
    fn spread(t: crate::Tensor<'_>) -> crate::Tensor<'_> {
        t.broadcast_in_dim([64, 32], &[1])
    }
    let centred = y - spread(y.mean(&[0]));
    let squares = (centred * centred).mean(&[0]);
    b.output("y", Role::Data, (centred * spread(squares.sqrt())).exp());
    if keep_centred {
        b.output("centred", Role::Data, centred);
    }
    let program = Native::new(1, Isa::detect()).build(&b.with_graph(Clone::clone)).unwrap();
    program.kernels().iter().map(|k| k.name.clone()).collect()
}

#[test]
fn cheap_values_are_computed_by_their_readers() {
    let kernels = kernels_of_a_norm(false);
    assert!(!kernels.contains(&"subtract".to_owned()), "{kernels:?}");
    assert_eq!(kernels.iter().filter(|k| k.starts_with("subtract+")).count(), 2, "{kernels:?}");
    // What is asked for is stored, and read by the others.
    let kernels = kernels_of_a_norm(true);
    assert_eq!(kernels.iter().filter(|k| k.contains("subtract")).count(), 1, "{kernels:?}");
}

/// A layer with an activation whose slope is read late, and the activation's Φ with it, if wanted; the names of the kernels.
fn kernels_of_an_activation(keep_phi: bool) -> Vec<String> {
    let b = Builder::new();
    let x = b.input("x", Role::Data, Type::new(DType::F32, [64, 32]));
    let w = b.input("w", Role::State, Type::new(DType::F32, [32, 32]));
    let a = x.linear(w);
    let phi = a.erf();
    let slope = phi + a * a.exp();
    let y = (a * phi).linear(w);
    b.output("dx", Role::Data, y.linear(w) * slope);
    if keep_phi {
        b.output("phi", Role::Data, y.linear(w) * phi);
    }
    let program = Native::new(1, Isa::detect()).build(&b.with_graph(Clone::clone)).unwrap();
    program.kernels().iter().map(|k| k.name.clone()).collect()
}

#[test]
fn one_value_is_kept_in_place_of_two() {
    let makes = |kernels: &[String], what: &str| kernels.iter().position(|name| name.contains(what));
    let kernels = kernels_of_an_activation(false);
    assert!(makes(&kernels, "exponential").is_some());
    assert_eq!(makes(&kernels, "erf"), makes(&kernels, "exponential"), "{kernels:?}");
    // Φ is kept anyway: nothing is won.
    let kernels = kernels_of_an_activation(true);
    assert_ne!(makes(&kernels, "erf"), makes(&kernels, "exponential"), "{kernels:?}");
}

#[test]
fn what_follows_the_gradient_of_a_pool_happens_on_its_tiles() {
    let b = Builder::new();
    let x = b.input("x", Role::Data, Type::new(DType::F32, [2, 9, 8, 20]));
    let pool = Window { stride: vec![1, 2, 2, 1], ..Window::new([1, 2, 2, 1]) };
    let y = x.relu().reduce_window(Reducer::Max, pool);
    b.output("gradient", Role::Data, (y * y).sum_all().grad(&[x])[0]);
    let native = Native::new(1, Isa::detect());
    let names = |native: &Native| {
        let program = native.build(&b.with_graph(Clone::clone)).unwrap();
        program.kernels().iter().map(|k| k.name.clone()).collect::<Vec<_>>()
    };
    let (fused, single) = (names(&native), names(&native.unfused()));
    assert!(fused.contains(&"select_and_scatter+select".to_owned()), "{fused:?}");
    assert!(single.contains(&"select_and_scatter".to_owned()), "{single:?}");
}

/// The kernels that pool 16 samples, join along a dimension, and move the samples down, all linked that can be.
fn kernels_of_movement(window: Window, dim: usize, down: isize) -> Vec<String> {
    let b = Builder::new();
    let x = b.input("x", Role::Data, Type::new(DType::F32, [16, 8, 6]));
    let pooled = x.exp().reduce_window(Reducer::Max, window);
    let joined = pooled.concatenate(&[pooled.tanh()], dim);
    let pad = Pad { low: vec![down, 1, -1], high: vec![-down, 0, 0], interior: vec![0; 3] };
    b.output("y", Role::Data, joined.pad(b.scalar(DType::F32, 1.0), pad));
    let native = Native::new(1, Isa::detect()).with(Options { link: Link::All, ..Options::default() });
    let program = native.build(&b.with_graph(Clone::clone)).unwrap();
    program.kernels().iter().map(|k| k.name.clone()).collect()
}

#[test]
fn pools_and_moved_elements_go_sample_by_sample() {
    let within = || Window { stride: vec![1, 2, 3], ..Window::new([1, 2, 3]) };
    assert_eq!(kernels_of_movement(within(), 1, 0), ["exponential > reduce_window > tanh > concatenate > pad"]);
    // Where samples meet or move, nothing is linked.
    let across = Window { padding: vec![(0, 1), (0, 0), (0, 0)], ..Window::new([2, 2, 3]) };
    assert!(kernels_of_movement(across, 1, 0).contains(&"exponential".to_owned()));
    assert!(kernels_of_movement(within(), 0, 0).iter().all(|name| !name.contains("> concatenate")));
    assert!(kernels_of_movement(within(), 1, 1).contains(&"pad".to_owned()));
}

#[test]
fn the_gradient_of_a_pool_takes_over_the_memory_of_what_was_pooled() {
    let b = Builder::new();
    let x = b.input("x", Role::Data, Type::new(DType::F32, [4, 32, 32, 16]));
    let w = b.input("w", Role::State, Type::new(DType::F32, [16, 16]));
    let layer = x.linear(w).relu();
    let pool = Window { stride: vec![1, 2, 2, 1], ..Window::new([1, 2, 2, 1]) };
    b.output("gradient", Role::Data, layer.reduce_window(Reducer::Max, pool).exp().sum_all().grad(&[w])[0]);
    let program = Native::new(1, Isa::detect()).build(&b.with_graph(Clone::clone)).unwrap();
    let arena = program.memory().arena;
    assert!(arena < 2 * 4 * 4 * 32 * 32 * 16, "{arena}");
}

#[test]
fn dense_products_go_sample_by_sample_if_a_sample_has_many_rows() {
    let links = |rows: usize, columns: usize| {
        let b = Builder::new();
        let x = b.input("x", Role::Data, Type::new(DType::F32, [16, rows, columns]));
        let w = b.input("w", Role::State, Type::new(DType::F32, [columns, columns]));
        b.output("y", Role::Data, x.linear(w).tanh().linear(w).exp());
        let program = Native::new(1, Isa::detect()).build(&b.with_graph(Clone::clone)).unwrap();
        program.kernels().iter().any(|kernel| kernel.name.contains(" > "))
    };
    assert!(links(512, 64));
    assert!(!links(128, 256));
}

/// Phases of several tasks that all threads take part in, of one elementwise kernel.
fn shared_phases(elements: usize) -> usize {
    let b = Builder::new();
    let x = b.input("x", Role::Data, Type::new(DType::F32, [elements]));
    b.output("y", Role::Data, x.exp());
    let settings = Settings { isa: Isa::detect(), fuse: true, poison: false, parts: 1, limits: Limits::USUAL };
    let mut code = assemble(&b.with_graph(Clone::clone), settings).unwrap();
    code.leave_short_phases();
    let shared = |step: &&Step| matches!(step, Step::Tasks { phase, .. } if phase.tasks > 1 && !phase.short);
    code.steps.iter().filter(shared).count()
}

#[test]
fn a_short_step_is_left_to_one_thread() {
    assert_eq!((shared_phases(150_000), shared_phases(1_000_000)), (0, 1));
}
