use super::{Model, ModelError, Output};
use crate::init::Init;
use backprop_core::{DType, Error, HostTensor, Type};
use backprop_data::{
    coding::{InputCoding, TargetCoding},
    text::Unit,
};

/// How text is generated.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Generate {
    /// Tokens to make.
    pub length: usize,
    /// Divides the logits: below 1 the likely becomes likelier; 0 always takes the likeliest.
    pub temperature: f64,
    /// Draw among this many likeliest tokens only.
    pub top_k: Option<usize>,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Generate {
    fn default() -> Generate {
        Generate { length: 200, temperature: 1.0, top_k: None, seed: 0 }
    }
}

impl Model {
    /// Goes on with a text, token by token, handing each piece to `hear`, which says whether to go on. The same seed gives the same
    /// text. The network sees as many of the last tokens as a sample had in training.
    ///
    /// # Errors
    /// A model that was not trained to tell the next token; an empty prompt, or one with tokens that the model does not know; a
    /// negative temperature.
    pub fn generate(&self, prompt: &str, options: &Generate, hear: &mut dyn FnMut(&str) -> bool) -> Result<(), ModelError> {
        let (InputCoding::Text(coding), TargetCoding::Token { vocabulary }) = (&self.coding().input, &self.coding().target)
        else {
            return Err(ModelError::Use("this model was not trained to go on with a text; use predict".into()));
        };
        if !(options.temperature >= 0.0 && options.temperature.is_finite()) {
            return Err(ModelError::Use(format!("the temperature must be 0 or more, got {}", options.temperature)));
        }
        let mut tokens = coding.vocabulary.encode(prompt)?;
        if tokens.is_empty() {
            return Err(ModelError::Use("the prompt is empty; give at least one character to go on from".into()));
        }
        let draws = Init::Uniform { low: 0.0, high: 1.0 };
        let draws = draws.sample("generate", options.seed, &Type::new(DType::F64, [options.length])).map_err(Error::Run)?;
        let mut shown = vocabulary.decode(&tokens).len();
        for draw in draws.to_f64() {
            tokens.push(self.next_token(&tokens, coding.sequence, options, draw)?);
            let text = vocabulary.decode(&tokens);
            // Words come with the spaces before them; bytes wait for the rest of their character.
            let new = text.get(shown..).unwrap_or_default();
            if new.ends_with(char::REPLACEMENT_CHARACTER) && vocabulary.unit() == Unit::Byte {
                continue;
            }
            shown = text.len();
            if !hear(new) {
                break;
            }
        }
        Ok(())
    }

    /// One token after the last ones of a text.
    fn next_token(&self, tokens: &[i32], sequence: usize, options: &Generate, draw: f64) -> Result<i32, ModelError> {
        let seen = &tokens[tokens.len().saturating_sub(sequence)..];
        // Padded on the right, which no position before it looks at: one program serves all lengths.
        let mut window = seen.to_vec();
        window.resize(sequence, 0);
        let x = HostTensor::new([1, sequence], &window).map_err(Error::Run)?;
        let logits = self.run(&x, Output::Raw)?;
        let logits = logits.as_slice::<f32>().unwrap_or_default();
        let width = logits.len() / sequence.max(1);
        let last = logits.get((seen.len() - 1) * width..seen.len() * width).unwrap_or_default();
        Ok(choose(last, options, draw) as i32)
    }
}

/// The token that a number in `[0, 1)` falls on when the likeliest come first, each as wide as it is likely.
fn choose(logits: &[f32], options: &Generate, draw: f64) -> usize {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(options.top_k.unwrap_or(usize::MAX).max(1));
    let Some(&best) = order.first() else { return 0 };
    if options.temperature == 0.0 {
        return best;
    }
    let weight = |i: usize| (f64::from(logits[i] - logits[best]) / options.temperature).exp();
    let mut left = draw * order.iter().map(|&i| weight(i)).sum::<f64>();
    let found = order.iter().find(|&&i| {
        left -= weight(i);
        left < 0.0
    });
    *found.unwrap_or(&best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelier_tokens_take_more_of_the_draws() {
        let logits = [0.0, f32::ln(3.0), f32::NEG_INFINITY];
        let of = |draw, options: Generate| choose(&logits, &options, draw);
        let plain = Generate::default();
        assert_eq!([0.0, 0.7, 0.76, 0.99].map(|d| of(d, plain)), [1, 1, 0, 0]);
        assert_eq!(of(0.99, Generate { top_k: Some(1), ..plain }), 1);
        assert_eq!(of(0.99, Generate { temperature: 0.0, ..plain }), 1);
        // exp(ln 3 / 0.5) = 9: nine tenths.
        assert_eq!([0.89, 0.91].map(|d| of(d, Generate { temperature: 0.5, ..plain })), [1, 0]);
    }
}
