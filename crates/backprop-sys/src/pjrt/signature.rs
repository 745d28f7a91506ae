//! Reads the types of arguments and results of `main` from a program's text: the C API does not tell those of arguments.

use super::element::ElementType;

/// Types of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Of its arguments.
    pub arguments: Vec<(ElementType, Vec<usize>)>,
    /// Of its results.
    pub results: Vec<(ElementType, Vec<usize>)>,
    /// For each argument, the result that takes its memory, if it says `tf.aliasing_output`.
    pub aliases: Vec<Option<usize>>,
}

/// The signature of `main`, if the text has it in the pretty form with tensors of our types and fixed shapes.
pub fn main(program: &str) -> Option<Signature> {
    let at = program
        .match_indices("@main")
        .map(|(at, name)| at + name.len())
        .find(|end| program[*end..].trim_start().starts_with('('))?;
    let mut text = Text(program[at..].trim_start());
    let mut signature = Signature { arguments: Vec::new(), results: Vec::new(), aliases: Vec::new() };
    text.take("(")?;
    while !text.comes(")") {
        if !signature.arguments.is_empty() {
            text.take(",")?;
        }
        text.take("%")?;
        text.until(':')?;
        signature.arguments.push(text.tensor()?);
        let attributes = text.attributes()?;
        signature.aliases.push(alias(attributes));
        text.location()?;
    }
    text.take(")")?;
    if text.comes("attributes") {
        text.take("attributes")?;
        text.attributes()?;
    }
    if text.comes("->") {
        text.take("->")?;
        results(&mut text, &mut signature.results)?;
    }
    Some(signature)
}

/// The type that a text like `tensor<2x3xf32>` says.
pub(super) fn tensor(text: &str) -> Option<(ElementType, Vec<usize>)> {
    let mut text = Text(text);
    let read = text.tensor()?;
    text.0.is_empty().then_some(read)
}

/// One type, or several in parentheses.
fn results(text: &mut Text, into: &mut Vec<(ElementType, Vec<usize>)>) -> Option<()> {
    if !text.comes("(") {
        into.push(text.tensor()?);
        return Some(());
    }
    text.take("(")?;
    while !text.comes(")") {
        if !into.is_empty() {
            text.take(",")?;
        }
        into.push(text.tensor()?);
        text.attributes()?;
    }
    text.take(")")
}

/// The result in `tf.aliasing_output = 3 : i32`.
fn alias(attributes: &str) -> Option<usize> {
    let (_, rest) = attributes.split_once("tf.aliasing_output")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// What is left to be read.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn comes(&mut self, word: &str) -> bool {
        self.0 = self.0.trim_start();
        self.0.starts_with(word)
    }

    fn take(&mut self, word: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(word)?;
        Some(())
    }

    fn until(&mut self, end: char) -> Option<&'a str> {
        let (before, rest) = self.0.split_once(end)?;
        self.0 = rest;
        Some(before)
    }

    /// `tensor<2x3xf32>`. An encoding or a dynamic dimension is none of ours.
    fn tensor(&mut self) -> Option<(ElementType, Vec<usize>)> {
        self.take("tensor<")?;
        let mut parts: Vec<&str> = self.until('>')?.split('x').map(str::trim).collect();
        let element = ElementType::from_name(parts.pop()?)?;
        let dims: Option<Vec<usize>> = parts.into_iter().map(|d| d.parse().ok()).collect();
        Some((element, dims?))
    }

    /// A dictionary in braces, if one comes; else nothing.
    fn attributes(&mut self) -> Option<&'a str> {
        if self.comes("{") { self.balanced('{', '}') } else { Some("") }
    }

    /// `loc(…)`, if it comes.
    fn location(&mut self) -> Option<()> {
        if self.comes("loc") {
            self.take("loc")?;
            self.0 = self.0.trim_start();
            self.balanced('(', ')')?;
        }
        Some(())
    }

    /// From an opening bracket to the closing one, past strings.
    fn balanced(&mut self, open: char, close: char) -> Option<&'a str> {
        let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
        for (i, c) in self.0.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                c if c == open && !quoted => depth += 1,
                c if c == close && !quoted => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let (inside, rest) = self.0.split_at(i + c.len_utf8());
                self.0 = rest;
                return Some(inside);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_main_are_read() {
        let text = r#"module @m attributes {x = "@main"} {
  sdy.mesh @mesh = <["data"=2]>
  func.func private @other(%arg0: tensor<f32>) -> tensor<f32> { return %arg0 : tensor<f32> }
  func.func public @main(%arg0: tensor<2x3xf32> {tf.aliasing_output = 1 : i32, a = "}\""}, %x: tensor<ui8> loc("a)"),
      %arg2: tensor<4xi1> {sdy.sharding = #sdy.sharding<@mesh, [{"data"}, {}]>}) -> (tensor<i64> {jax.result_info = ""}, tensor<2x3xf32>) {
"#;
        let main = main(text).unwrap();
        assert_eq!(main.arguments, [(ElementType::F32, vec![2, 3]), (ElementType::U8, vec![]), (ElementType::Bool, vec![4])]);
        assert_eq!(main.results, [(ElementType::I64, vec![]), (ElementType::F32, vec![2, 3])]);
        assert_eq!(main.aliases, [Some(1), None, None]);
    }

    #[test]
    fn short_forms_are_read_and_foreign_ones_left() {
        let read = main("func.func @main() -> tensor<bf16> {").unwrap();
        assert_eq!((read.arguments.len(), read.results), (0, vec![(ElementType::BF16, vec![])]));
        assert_eq!(main("func.func @main() {").unwrap().results, []);
        for foreign in
            ["", "@main", "@main(%a: tensor<?xf32>)", "@main(%a: tensor<2xf8E5M2>)", "@main(%a", "@main(%a: tensor<f32> {"]
        {
            assert_eq!(main(foreign), None, "{foreign}");
        }
    }
}
