//! A decoder-only transformer from primitives and the library's layers: what a user's own model looks like.

use backprop::prelude::*;

/// Token and position tables, pre-norm blocks, layer norm, head.
#[derive(Debug)]
pub struct Transformer {
    pub vocabulary: usize,
    pub length: usize,
    pub width: usize,
    pub heads: usize,
    pub depth: usize,
}

impl Layer for Transformer {
    fn forward<'g>(&self, cx: &mut Scope<'g>, tokens: Tensor<'g>) -> Tensor<'g> {
        let table = Init::Normal { mean: 0.0, std: 0.5 };
        let embedded = cx.param("tok", [self.vocabulary, self.width], &table).rows(tokens);
        let mut x = embedded + cx.param("pos", [self.length, self.width], &table);
        for i in 0..self.depth {
            x = cx.child(&format!("blocks.{i}"), |cx| self.block(cx, x));
        }
        let x = cx.call("lnf", &LayerNorm::new(), x);
        cx.call("head", &Linear::new(self.vocabulary).bias(false), x)
    }
}

impl Transformer {
    fn block<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let normed = cx.call("ln1", &LayerNorm::new(), x);
        let x = x + self.attention(cx, normed);
        let normed = cx.call("ln2", &LayerNorm::new(), x);
        let up = cx.call("up", &Linear::new(4 * self.width), normed);
        x + cx.call("down", &Linear::new(self.width), functional::gelu(up))
    }

    fn attention<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let (n, t, head) = (x.dim(0), x.dim(1), self.width / self.heads);
        let qkv = cx.call("qkv", &Linear::new(3 * self.width).bias(false), x);
        let [q, k, v] = [0, 1, 2].map(|part| {
            let part = qkv.slice_dim(2, part * self.width, (part + 1) * self.width);
            part.reshape([n, t, self.heads, head]).transpose(&[0, 2, 1, 3])
        });
        let scores = q.matmul(k.t()) * (1.0 / (head as f64).sqrt());
        let position = |dim| cx.builder().iota(Type::new(DType::I32, [t, t]), dim);
        let future = position(1).greater(position(0)).broadcast_to(scores.shape());
        let weights = functional::softmax(future.select(scores.like(f64::NEG_INFINITY), scores), -1);
        let mixed = weights.matmul(v).transpose(&[0, 2, 1, 3]).reshape([n, t, self.width]);
        cx.call("proj", &Linear::new(self.width), mixed)
    }
}
