use crate::{config::ConfigError, nn::LayerSpec};
use serde_json::Value;

/// The same layers with probability 0 wherever something is dropped: layers that drop, and the `dropout` of others, however deep.
///
/// # Errors
/// A layer defined outside the library: what is in it is not known.
pub fn without_dropout(layers: &[LayerSpec]) -> Result<Vec<LayerSpec>, ConfigError> {
    let failed = |e: serde_json::Error| ConfigError::new(format!("dropout cannot be taken out of this network: {e}"));
    let mut tree = serde_json::to_value(layers).map_err(failed)?;
    clear(&mut tree);
    serde_json::from_value(tree).map_err(failed)
}

fn clear(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(clear),
        Value::Object(table) => {
            if matches!(table.get("type").and_then(Value::as_str), Some("dropout" | "spatial_dropout2d")) {
                table.insert("p".into(), 0.0.into());
            }
            if let Some(probability) = table.get_mut("dropout").filter(|p| p.is_number()) {
                *probability = 0.0.into();
            }
            table.values_mut().for_each(clear);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{
        Dropout, Embedding, Gru, Linear, Lstm, MultiHeadAttention, Repeat, Residual, Rnn, Sequential, SpatialDropout2d,
        TransformerBlock,
    };

    #[test]
    fn nothing_is_left_that_drops() {
        let inner = Sequential::new().push(Linear::new(4)).push(Dropout::new(0.3));
        let layers: Vec<LayerSpec> = vec![
            Embedding::new(7, 4).into(),
            Rnn::new(4).dropout(0.1).into(),
            Gru::new(4).dropout(0.1).into(),
            Lstm::new(4).dropout(0.1).into(),
            MultiHeadAttention::new(2).dropout(0.1).into(),
            TransformerBlock::new(2).dropout(0.1).into(),
            SpatialDropout2d::new(0.25).into(),
            Residual::new(Sequential::new().push(Repeat::new(2, inner))).into(),
        ];
        let text = |layers: &[LayerSpec]| serde_json::to_string(layers).unwrap();
        let before = text(&layers);
        let after = text(&without_dropout(&layers).unwrap());
        let count = |text: &str, word: &str| text.matches(word).count();
        assert_eq!(count(&before, "\"dropout\":0.1"), 5, "{before}");
        assert_eq!((count(&after, "\"dropout\":0.0"), count(&after, "\"dropout\":0.1")), (5, 0), "{after}");
        assert_eq!((count(&after, "\"p\":0.0"), count(&after, "\"p\":")), (2, 2), "{after}");
        // Nothing else changes.
        assert_eq!(after.replace("0.0", "0.1"), before.replace("0.3", "0.1").replace("0.25", "0.1").replace("0.0", "0.1"));
    }
}
