//! The operations of tile programs, noted down.

use super::code::{Binary, Code, Id, Inst, Logic, Noted, Relation, Unary};
use crate::DType;
use crate::math::{Number, general};
use crate::tile::OpCode;
use std::cell::RefCell;

/// Whether an operation on operands of these types can be noted down.
pub(in crate::tile) fn supports(op: OpCode, types: &[DType]) -> bool {
    let code = RefCell::new(Code::default());
    let load = |(stream, dtype): (usize, &DType)| match dtype {
        DType::F32 => Some(code.borrow_mut().push(Inst::Load { stream })),
        DType::Bool => Some(code.borrow_mut().push(Inst::LoadFlags { stream })),
        _ => None,
    };
    types.iter().enumerate().map(load).collect::<Option<Vec<Id>>>().is_some_and(|sources| note(&code, op, &sources).is_some())
}

/// Notes an operation on noted operands; `None` if there is no notation for it.
pub(in crate::tile) fn note(code: &RefCell<Code>, op: OpCode, sources: &[Id]) -> Option<Id> {
    let is_mask: Vec<bool> = sources.iter().map(|&id| code.borrow().insts[id].is_mask()).collect();
    match (&is_mask[..], op) {
        ([true, false, false], OpCode::Select) => Some(code.borrow_mut().push(Inst::Select(sources[0], sources[1], sources[2]))),
        (masks, _) if !masks.contains(&true) => of_numbers(code, op, sources),
        (masks, _) if !masks.contains(&false) => of_masks(&mut code.borrow_mut(), op, sources),
        _ => None,
    }
}

fn of_masks(code: &mut Code, op: OpCode, sources: &[Id]) -> Option<Id> {
    let logic = |code: &mut Code, op| code.push(Inst::Logic(op, sources[0], sources[1]));
    Some(match op {
        OpCode::And | OpCode::Min => logic(code, Logic::And),
        OpCode::Or | OpCode::Max => logic(code, Logic::Or),
        OpCode::Xor | OpCode::Ne => logic(code, Logic::Xor),
        OpCode::Not => {
            let all = code.mask(u32::MAX);
            code.push(Inst::Logic(Logic::Xor, sources[0], all))
        }
        OpCode::Convert(DType::F32) => {
            let [one, zero] = [1.0f32, 0.0].map(|x| code.constant(x.to_bits()));
            code.push(Inst::Select(sources[0], one, zero))
        }
        _ => return None,
    })
}

fn of_numbers(code: &RefCell<Code>, op: OpCode, sources: &[Id]) -> Option<Id> {
    let at = |i: usize| Noted { code, id: sources[i] };
    let x = at(0);
    let y = |f: fn(Noted, Noted) -> Id| f(x, at(1));
    let relation =
        |relation: Relation, a: usize, b: usize| code.borrow_mut().push(Inst::Compare(relation, sources[a], sources[b]));
    let binary = |op: Binary| code.borrow_mut().push(Inst::Binary(op, sources[0], sources[1]));
    Some(match op {
        OpCode::Neg => (-x).id,
        OpCode::Abs => x.abs().id,
        OpCode::Sign => general::sign(x).id,
        OpCode::RoundNearestEven => x.unary(Unary::Round(0)).id,
        OpCode::Floor => x.unary(Unary::Round(1)).id,
        OpCode::Ceil => x.unary(Unary::Round(2)).id,
        OpCode::Exp => general::exp(x).id,
        OpCode::Expm1 => general::expm1(x).id,
        OpCode::Log => general::log(x).id,
        OpCode::Log1p => general::log1p(x).id,
        OpCode::Sqrt => x.unary(Unary::Sqrt).id,
        OpCode::Rsqrt => (x.constant(1.0) / x.unary(Unary::Sqrt)).id,
        OpCode::Tanh => general::tanh(x).id,
        OpCode::Logistic => general::logistic(x).id,
        OpCode::Erf => general::erf(x).id,
        OpCode::IsFinite => x.abs().less(x.constant(f32::INFINITY)).0,
        OpCode::Add => binary(Binary::Add),
        OpCode::Sub => binary(Binary::Sub),
        OpCode::Mul => binary(Binary::Mul),
        OpCode::Div => binary(Binary::Div),
        OpCode::Max => y(|a, b| general::maximum(a, b).id),
        OpCode::Min => y(|a, b| general::minimum(a, b).id),
        OpCode::Clamp => general::minimum(general::maximum(at(1), x), at(2)).id,
        OpCode::Eq => relation(Relation::Equal, 0, 1),
        OpCode::Ne => relation(Relation::NotEqual, 0, 1),
        OpCode::Lt => relation(Relation::Less, 0, 1),
        OpCode::Le => relation(Relation::LessEqual, 0, 1),
        OpCode::Gt => relation(Relation::Less, 1, 0),
        OpCode::Ge => relation(Relation::LessEqual, 1, 0),
        _ => return None,
    })
}
