use super::program::{Definition, TileProgram};

/// Merges adjacent dimensions wherever every access walks them as one.
pub(crate) fn collapse(program: &TileProgram) -> TileProgram {
    let mut result = program.clone();
    for d in (0..program.dims.len().saturating_sub(1)).rev() {
        let (outer, inner) = (result.dims[d], result.dims[d + 1]);
        let as_one = |s: &Vec<isize>| outer == 1 || inner == 1 || s[d] == s[d + 1].wrapping_mul(inner as isize);
        if !all_strides(&mut result).all(|s| as_one(s)) {
            continue;
        }
        result.dims[d + 1] *= outer;
        result.dims.remove(d);
        // A dimension of size 1 is never stepped along: the other one's stride counts.
        let dropped = if inner == 1 { d + 1 } else { d };
        for strides in all_strides(&mut result) {
            strides.remove(dropped);
        }
    }
    result
}

fn all_strides(program: &mut TileProgram) -> impl Iterator<Item = &mut Vec<isize>> {
    let values = program.values.iter_mut().filter_map(|value| match &mut value.definition {
        Definition::Load { strides, .. } | Definition::Affine { strides } => Some(strides),
        Definition::Sparse(rows) => Some(&mut rows.strides),
        _ => None,
    });
    values.chain(program.stores.iter_mut().map(|store| &mut store.strides))
}
