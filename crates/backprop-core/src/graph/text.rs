//! The text form: printed for people, parsed back to an equal graph.
//!
//! ```text
//! graph(%0, %1) {
//!   %0 = input state "w" -> f32[2,3]
//!   %1 = input data "x" -> f32[4,3]
//!   %2 = dot_general(%1, %0) {"lhs_contracting":[1],…} -> f32[4,2] @ layers.0
//!   return data "y" %2
//! }
//! ```
//! Bodies of scans and composites follow their operation, indented.

use super::{Graph, Input, Node, NodeId, Origin, Output, Role, Type, ValueId};
use crate::{Error, op::Op};
use std::{collections::HashMap, fmt, fmt::Write, str::FromStr};

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Printer::new(self).print(0))
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::State => "state",
        Role::Data => "data",
    }
}

struct Printer<'a> {
    graph: &'a Graph,
    /// Number of the first output of each node.
    first: Vec<usize>,
}

impl<'a> Printer<'a> {
    fn new(graph: &'a Graph) -> Self {
        let mut next = 0;
        let number = |n: &Node| {
            next += n.outputs.len();
            next - n.outputs.len()
        };
        Printer { graph, first: graph.nodes.iter().map(number).collect() }
    }

    fn value(&self, v: ValueId) -> String {
        format!("%{}", self.first[v.node.index()] + v.output as usize)
    }

    fn list<T>(items: &[T], f: impl Fn(&T) -> String) -> String {
        items.iter().map(f).collect::<Vec<_>>().join(", ")
    }

    fn print(&self, indent: usize) -> String {
        let pad = "  ".repeat(indent);
        let inputs = Self::list(&self.graph.inputs, |i| self.value(ValueId { node: i.node, output: 0 }));
        let mut text = format!("graph({inputs}) {{\n");
        for (id, node) in self.graph.iter() {
            let _ = writeln!(text, "{pad}  {}", self.node(id, node, indent + 1));
        }
        let outputs = Self::list(&self.graph.outputs, |o| format!("{} {:?} {}", role_name(o.role), o.name, self.value(o.value)));
        let _ = write!(text, "{pad}  return {outputs}\n{pad}}}");
        text
    }

    fn node(&self, id: NodeId, node: &Node, indent: usize) -> String {
        let values: Vec<ValueId> = (0..node.outputs.len() as u32).map(|output| ValueId { node: id, output }).collect();
        let mut text = format!("{} = {}", Self::list(&values, |&v| self.value(v)), node.op.name());
        match self.graph.inputs.iter().find(|i| i.node == id) {
            Some(input) => {
                let _ = write!(text, " {} {:?}", role_name(input.role), input.name);
            }
            None => {
                let _ = write!(text, "({})", Self::list(&node.inputs, |&v| self.value(v)));
                if !matches!(node.op, Op::Unary(_) | Op::Binary(_)) {
                    let attributes = node.op.attributes().to_string();
                    text.extend([" ", &attributes].iter().filter(|_| attributes != "{}").copied());
                }
            }
        }
        let _ = write!(text, " -> {}", Self::list(&node.outputs, Type::to_string));
        if !node.origin.path.is_empty() {
            let _ = write!(text, " @ {}", node.origin.path);
        }
        for body in node.op.regions() {
            let _ = write!(text, "\n{}{}", "  ".repeat(indent + 1), Printer::new(body).print(indent + 1));
        }
        text
    }
}

impl FromStr for Graph {
    type Err = Error;

    /// Reads the text form and verifies the graph.
    fn from_str(text: &str) -> Result<Graph, Error> {
        let mut parser = Parser { lines: text.lines().collect(), at: 0 };
        let graph = parser.graph()?;
        super::verify(&graph)?;
        Ok(graph)
    }
}

struct Parser<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

/// Values by the number they have in the text.
type Names = HashMap<String, ValueId>;

impl<'a> Parser<'a> {
    fn error(&self, message: impl Into<String>) -> Error {
        Error::Parse { line: self.at + 1, message: message.into() }
    }

    fn peek(&self) -> Result<&'a str, Error> {
        self.lines.get(self.at).map(|l| l.trim()).ok_or_else(|| self.error("the text ends inside a graph"))
    }

    fn graph(&mut self) -> Result<Graph, Error> {
        let header = self.peek()?;
        let inputs = header.strip_prefix("graph(").and_then(|rest| rest.strip_suffix(") {"));
        let order: Vec<String> = inputs.map(split).ok_or_else(|| self.error("expected `graph(%0, …) {`"))?;
        self.at += 1;
        let mut graph = Graph::default();
        let mut names = Names::new();
        loop {
            let line = self.peek()?;
            if let Some(outputs) = line.strip_prefix("return") {
                self.outputs(outputs.trim(), &names, &mut graph)?;
                self.at += 1;
                break;
            }
            self.node(line, &mut graph, &mut names)?;
        }
        if self.peek()? != "}" {
            return Err(self.error("expected `}` after `return`"));
        }
        self.at += 1;
        let position = |i: &Input| order.iter().position(|n| names.get(n).is_some_and(|v| v.node == i.node));
        graph.inputs.sort_by_key(position);
        Ok(graph)
    }

    fn node(&mut self, line: &str, graph: &mut Graph, names: &mut Names) -> Result<(), Error> {
        let parts = line.split_once(" = ").and_then(|(left, rest)| rest.rsplit_once(" -> ").map(|(a, b)| (left, a, b)));
        let (left, call, right) = parts.ok_or_else(|| self.error("expected `%n = operation(…) -> type`"))?;
        let (types, path) = right.split_once(" @ ").unwrap_or((right, ""));
        let outputs: Result<Vec<Type>, String> = split_types(types).iter().map(|t| t.parse()).collect();
        let outputs = outputs.map_err(|e| self.error(e))?;
        let id = NodeId(graph.nodes.len() as u32);
        let (op, inputs) = self.operation(call, id, &outputs, graph, names)?;
        let origin = Origin { path: path.into(), ..Origin::default() };
        self.at += 1;
        let mut bodies = Vec::new();
        while self.lines.get(self.at).is_some_and(|l| l.trim().starts_with("graph(")) {
            bodies.push(self.graph()?);
        }
        let op = with_bodies(op, bodies);
        graph.nodes.push(Node { op, inputs, outputs, origin });
        for (output, name) in split(left).into_iter().enumerate() {
            names.insert(name, ValueId { node: id, output: output as u32 });
        }
        Ok(())
    }

    fn operation(
        &self,
        call: &str,
        id: NodeId,
        outputs: &[Type],
        graph: &mut Graph,
        names: &Names,
    ) -> Result<(Op, Vec<ValueId>), Error> {
        if let Some(input) = call.strip_prefix("input ") {
            let (role, name) = self.role_and_name(input)?;
            graph.inputs.push(Input { name: name.0, role, node: id });
            let ty = outputs.first().cloned().ok_or_else(|| self.error("an input needs a type"))?;
            return Ok((Op::Input(crate::op::InputOp { ty }), Vec::new()));
        }
        let parts = call.split_once('(').and_then(|(name, rest)| rest.split_once(')').map(|(a, b)| (name, a, b)));
        let (name, operands, attributes) = parts.ok_or_else(|| self.error("expected `operation(…)`"))?;
        let attributes = if attributes.trim().is_empty() { "{}" } else { attributes.trim() };
        let attributes = serde_json::from_str(attributes).map_err(|e| self.error(e.to_string()))?;
        let inputs: Result<Vec<ValueId>, Error> = split(operands).iter().map(|n| self.lookup(n, names)).collect();
        Ok((Op::from_text(name, attributes).map_err(|e| self.error(e))?, inputs?))
    }

    fn lookup(&self, name: &str, names: &Names) -> Result<ValueId, Error> {
        names.get(name).copied().ok_or_else(|| self.error(format!("{name} is not defined before it is used")))
    }

    /// `state "name" rest`: role, (name, rest).
    fn role_and_name(&self, text: &str) -> Result<(Role, (String, String)), Error> {
        let (role, rest) = text.split_once(' ').ok_or_else(|| self.error("expected `state` or `data` and a name"))?;
        let role = match role {
            "state" => Role::State,
            "data" => Role::Data,
            _ => return Err(self.error(format!("expected `state` or `data`, found `{role}`"))),
        };
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let name = stream.next().and_then(Result::ok).ok_or_else(|| self.error("expected a name in quotes"))?;
        Ok((role, (name, rest[stream.byte_offset()..].trim().to_string())))
    }

    fn outputs(&self, mut text: &str, names: &Names, graph: &mut Graph) -> Result<(), Error> {
        while !text.is_empty() {
            let (role, (name, rest)) = self.role_and_name(text)?;
            let value = rest.split(',').next().unwrap_or("").trim();
            graph.outputs.push(Output { name, role, value: self.lookup(value, names)? });
            let consumed = text.len() - rest.len() + rest.find(',').map_or(rest.len(), |c| c + 1);
            text = text[consumed.min(text.len())..].trim();
        }
        Ok(())
    }
}

fn with_bodies(op: Op, bodies: Vec<Graph>) -> Op {
    let mut bodies = bodies.into_iter();
    match op {
        Op::Scan(mut scan) => {
            scan.body = bodies.next().unwrap_or_default().into();
            Op::Scan(scan)
        }
        Op::Composite(mut region) => {
            region.body = bodies.next().unwrap_or_default().into();
            region.derivative = bodies.next().map(Into::into);
            Op::Composite(region)
        }
        other => other,
    }
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect()
}

/// Splits `f32[2,3], i32[4]` at the commas outside brackets.
fn split_types(list: &str) -> Vec<String> {
    let pieces: Vec<&str> = list.split(']').filter(|p| !p.trim().is_empty()).collect();
    pieces.iter().map(|p| format!("{}]", p.trim_start_matches(',').trim())).collect()
}
