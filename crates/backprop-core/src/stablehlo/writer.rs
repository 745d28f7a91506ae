//! Lines of StableHLO.

use super::Precision;
use crate::{DType, HostTensor, Shape, Type};
use std::fmt::{Display, Write};

/// A value in the text: its name and type.
#[derive(Clone, Debug)]
pub struct Value {
    /// As written, such as `%12`.
    pub(super) name: String,
    /// Its type.
    pub ty: Type,
}

/// A list of numbers as in `array<i64: 1, 2>`.
fn array<T: Display>(kind: &str, values: impl IntoIterator<Item = T>) -> String {
    let values = strings(values);
    if values.is_empty() { format!("array<{kind}>") } else { format!("array<{kind}: {values}>") }
}

/// Values separated by commas.
pub fn strings<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|v| v.to_string()).collect::<Vec<_>>().join(", ")
}

/// Name of an element type.
fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "i1",
        DType::U8 => "ui8",
        DType::I32 => "i32",
        DType::I64 => "i64",
        DType::U32 => "ui32",
        DType::U64 => "ui64",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::F32 => "f32",
        DType::F64 => "f64",
    }
}

/// A type as `tensor<2x3xf32>`.
pub(super) fn tensor(ty: &Type) -> String {
    let extents: String = ty.shape.iter().map(|d| format!("{d}x")).collect();
    format!("tensor<{extents}{}>", element(ty.dtype))
}

fn tensors<'t>(types: impl IntoIterator<Item = &'t Type>) -> String {
    strings(types.into_iter().map(tensor))
}

/// What a region computes: values from its arguments.
pub(crate) type Region<'r> = &'r mut dyn FnMut(&mut Writer, &[Value]) -> Vec<Value>;

/// Writes operations one after the other and names their results.
#[derive(Debug, Default)]
pub struct Writer {
    pub(super) text: String,
    pub(super) precision: Precision,
    next: usize,
    depth: usize,
}

impl Writer {
    pub(super) fn new(precision: Precision) -> Writer {
        Writer { precision, depth: 2, ..Writer::default() }
    }

    /// A fresh value of a type.
    pub(crate) fn fresh(&mut self, ty: &Type) -> Value {
        self.next += 1;
        Value { name: format!("%{}", self.next - 1), ty: ty.clone() }
    }

    pub(super) fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{:1$}{line}", "", 2 * self.depth);
    }

    /// An operation with one result. `attributes` are those between the braces.
    pub fn op(&mut self, name: &str, operands: &[&Value], attributes: &str, result: &Type) -> Value {
        let value = self.fresh(result);
        self.write(name, operands, attributes, std::slice::from_ref(&value), &mut []);
        value
    }

    /// An operation with any number of results.
    pub(crate) fn ops(&mut self, name: &str, operands: &[&Value], attributes: &str, results: &[Type]) -> Vec<Value> {
        self.regions(name, operands, attributes, results, &mut [])
    }

    /// An operation with regions, each with the types of its arguments.
    pub(crate) fn regions(
        &mut self,
        name: &str,
        operands: &[&Value],
        attributes: &str,
        results: &[Type],
        regions: &mut [(Vec<Type>, Region<'_>)],
    ) -> Vec<Value> {
        let values: Vec<Value> = results.iter().map(|ty| self.fresh(ty)).collect();
        self.write(name, operands, attributes, &values, regions);
        values
    }

    fn write(
        &mut self,
        name: &str,
        operands: &[&Value],
        attributes: &str,
        results: &[Value],
        regions: &mut [(Vec<Type>, Region<'_>)],
    ) {
        let assigned =
            if results.is_empty() { String::new() } else { format!("{} = ", strings(results.iter().map(|r| &r.name))) };
        let dialect = if name.contains('.') { "" } else { "stablehlo." };
        let mut line = format!("{assigned}\"{dialect}{name}\"({})", strings(operands.iter().map(|v| &v.name)));
        for (i, (arguments, body)) in regions.iter_mut().enumerate() {
            line += if i == 0 { " ({" } else { "}, {" };
            self.line(&line);
            self.region(arguments, body);
            line.clear();
        }
        if !regions.is_empty() {
            line += "})";
        }
        if !attributes.is_empty() {
            let _ = write!(line, " {{{attributes}}}");
        }
        let _ = write!(line, " : ({})", tensors(operands.iter().map(|v| &v.ty)));
        let types = tensors(results.iter().map(|v| &v.ty));
        let _ = if results.len() == 1 { write!(line, " -> {types}") } else { write!(line, " -> ({types})") };
        self.line(&line);
    }

    fn region(&mut self, arguments: &[Type], body: Region<'_>) {
        let arguments: Vec<Value> = arguments.iter().map(|ty| self.fresh(ty)).collect();
        let declared = strings(arguments.iter().map(|a| format!("{}: {}", a.name, tensor(&a.ty))));
        self.line(&format!("^bb0({declared}):"));
        self.depth += 1;
        let results = body(self, &arguments);
        self.write("return", &results.iter().collect::<Vec<_>>(), "", &[], &mut []);
        self.depth -= 1;
    }

    /// A constant from host memory.
    pub(crate) fn constant(&mut self, value: &HostTensor) -> Value {
        // Hexadecimal bools are packed in bits; bytes are not.
        if value.dtype() == DType::Bool {
            let bytes = Type::new(DType::U8, value.shape());
            let bytes = self.dense(&bytes, value.bytes());
            return self.convert(&bytes, DType::Bool);
        }
        self.dense(value.ty(), value.bytes())
    }

    /// A constant from little-endian bytes; one element alone stands for all.
    fn dense(&mut self, ty: &Type, bytes: &[u8]) -> Value {
        let mut value = String::with_capacity(2 * bytes.len() + 4);
        if !bytes.is_empty() {
            value += "\"0x";
            bytes.iter().for_each(|byte| {
                let _ = write!(value, "{byte:02X}");
            });
            value += "\"";
        }
        self.op("constant", &[], &format!("value = dense<{value}> : {}", tensor(ty)), ty)
    }

    /// A scalar, rounded to a floating-point type.
    pub(crate) fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        match HostTensor::from_f64(dtype, [], &[value]) {
            Ok(tensor) => self.constant(&tensor),
            Err(_) => self.fresh(&Type::scalar(dtype)),
        }
    }

    /// An integer or bool scalar, exactly.
    pub(crate) fn integer(&mut self, dtype: DType, value: i128) -> Value {
        if dtype == DType::Bool {
            return self.scalar(dtype, f64::from(u8::from(value != 0)));
        }
        self.dense(&Type::scalar(dtype), &value.to_le_bytes()[..dtype.size()])
    }

    /// A scalar repeated over a shape.
    pub(crate) fn spread(&mut self, scalar: &Value, shape: &Shape) -> Value {
        self.broadcast(scalar, shape, &[])
    }

    /// Dimension i of the operand becomes dimension `dims[i]` of the result.
    pub(crate) fn broadcast(&mut self, x: &Value, shape: &Shape, dims: &[usize]) -> Value {
        let attributes = format!("broadcast_dimensions = {}", array("i64", dims));
        self.op("broadcast_in_dim", &[x], &attributes, &Type::new(x.ty.dtype, shape))
    }

    pub(crate) fn reshape(&mut self, x: &Value, shape: &Shape) -> Value {
        self.op("reshape", &[x], "", &Type::new(x.ty.dtype, shape))
    }

    pub(crate) fn convert(&mut self, x: &Value, dtype: DType) -> Value {
        if x.ty.dtype == dtype { x.clone() } else { self.op("convert", &[x], "", &Type::new(dtype, &x.ty.shape)) }
    }

    /// A function of two operands of one type.
    pub(crate) fn binary(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.op(name, &[a, b], "", &a.ty)
    }

    /// A comparison by its direction: `EQ`, `NE`, `LT`, `LE`, `GT`, `GE`.
    pub(crate) fn compare(&mut self, direction: &str, a: &Value, b: &Value) -> Value {
        let attributes = format!("comparison_direction = #stablehlo<comparison_direction {direction}>");
        self.op("compare", &[a, b], &attributes, &Type::new(DType::Bool, &a.ty.shape))
    }

    pub(crate) fn select(&mut self, condition: &Value, yes: &Value, no: &Value) -> Value {
        self.op("select", &[condition, yes, no], "", &yes.ty)
    }

    /// Copies of a scalar before (`edges[0]`), after and between the elements; negative edges crop.
    pub(crate) fn pad(&mut self, x: &Value, fill: &Value, edges: [&Vec<isize>; 2], interior: &[usize], result: &Type) -> Value {
        if *result == x.ty && edges.iter().all(|e| e.iter().all(|&n| n == 0)) {
            return x.clone();
        }
        let attributes = [
            Writer::numbers("edge_padding_low", edges[0]),
            Writer::numbers("edge_padding_high", edges[1]),
            Writer::numbers("interior_padding", interior),
        ];
        self.op("pad", &[x, fill], &attributes.join(", "), result)
    }

    /// Adds updates at positions that index vectors give; those out of range are left out. `unique`: no two are of one element.
    pub(crate) fn scatter_add(&mut self, x: &Value, indices: &Value, updates: &Value, numbers: &str, unique: bool) -> Value {
        let attributes = format!(
            "scatter_dimension_numbers = #stablehlo.scatter<{numbers}>, indices_are_sorted = false, unique_indices = {unique}"
        );
        let scalar = Type::scalar(x.ty.dtype);
        let mut add = |w: &mut Writer, v: &[Value]| vec![w.binary("add", &v[0], &v[1])];
        let regions: &mut [(Vec<Type>, Region<'_>)] = &mut [(vec![scalar.clone(), scalar], &mut add)];
        let results = std::slice::from_ref(&x.ty);
        self.regions("scatter", &[x, indices, updates], &attributes, results, regions).swap_remove(0)
    }

    /// The attribute that lists dimensions or extents.
    pub(crate) fn numbers<T: Display>(name: &str, values: impl IntoIterator<Item = T>) -> String {
        format!("{name} = {}", array("i64", values))
    }

    /// The attribute with padding before and after each dimension.
    pub(crate) fn padding(padding: &[(isize, isize)]) -> String {
        let pairs = strings(padding.iter().map(|(low, high)| format!("[{low}, {high}]")));
        let value = if padding.is_empty() { String::new() } else { format!("[{pairs}]") };
        format!("padding = dense<{value}> : tensor<{}x2xi64>", padding.len())
    }

    /// The attribute that says how exactly a product is formed.
    pub(crate) fn precision_config(&self) -> String {
        let word = if self.precision == Precision::Highest { "HIGHEST" } else { "DEFAULT" };
        format!("precision_config = [#stablehlo<precision {word}>, #stablehlo<precision {word}>]")
    }
}
