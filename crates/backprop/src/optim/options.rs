/// Defines an optimizer's options: every field has a default, a key in TOML and a method that sets it.
macro_rules! options {
    ($(#[$doc:meta])* $optimizer:ident at $rate:literal $(with betas [$beta1:literal, $beta2:literal] $betas_doc:literal)? {
        $($(#[$field_doc:meta])* $field:ident: $ty:ty = $default:expr;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $optimizer {
            /// Learning rate.
            pub learning_rate: f64,
            $(#[doc = $betas_doc] pub betas: [f64; 2],)?
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl Default for $optimizer {
            fn default() -> $optimizer {
                $optimizer { learning_rate: $rate, $(betas: [$beta1, $beta2],)? $($field: $default,)* }
            }
        }

        impl $optimizer {
            /// PyTorch's defaults at a learning rate.
            pub fn new(learning_rate: f64) -> $optimizer {
                $optimizer { learning_rate, ..$optimizer::default() }
            }

            $(
                #[doc = $betas_doc]
                pub fn betas(mut self, beta1: f64, beta2: f64) -> $optimizer {
                    self.betas = [beta1, beta2];
                    self
                }
            )?

            $(
                $(#[$field_doc])*
                pub fn $field(mut self, $field: $ty) -> $optimizer {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}
