//! Changing colours, as `ColorJitter` of torchvision does, in a fixed order.

/// Largest value of a colour.
const WHITE: f32 = 255.0;

/// Shares of red, green and blue in a pixel's grey (ITU-R BT.601).
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

fn grey(pixel: &[f32; 3]) -> f32 {
    GREY[0] * pixel[0] + GREY[1] * pixel[1] + GREY[2] * pixel[2]
}

/// Keeps a value in 0..=255. Written out, so that it becomes two instructions.
fn limit(value: f32) -> f32 {
    value.clamp(0.0, WHITE)
}

/// `value · factor`.
pub(super) fn brightness(image: &mut [f32], factor: f32) {
    image.iter_mut().for_each(|v| *v = limit(*v * factor));
}

/// `mean + (value − mean) · factor` with the mean grey of the image.
pub(super) fn contrast(image: &mut [f32], channels: usize, factor: f32) {
    let mean = match channels {
        3 => grey(&[mean(image, 0, 3), mean(image, 1, 3), mean(image, 2, 3)]),
        _ => mean(image, 0, 1),
    };
    image.iter_mut().for_each(|v| *v = limit(mean + (*v - mean) * factor));
}

/// `grey + (value − grey) · factor` with the pixel's grey.
pub(super) fn saturation(image: &mut [f32], factor: f32) {
    for pixel in image.as_chunks_mut::<3>().0 {
        let grey = grey(pixel);
        *pixel = pixel.map(|v| limit(grey + (v - grey) * factor));
    }
}

/// Turns the hue of the HSV model by `turn` of the circle; value and saturation stay.
pub(super) fn hue(image: &mut [f32], turn: f32) {
    let turn = 6.0 * turn;
    for pixel in image.as_chunks_mut::<3>().0 {
        let [r, g, b] = *pixel;
        let most = r.max(g).max(b);
        let chroma = most - r.min(g).min(b);
        // A grey pixel has no hue; any divisor will do, since the chroma is 0.
        let scale = 1.0 / if chroma > 0.0 { chroma } else { 1.0 };
        let from_green = 2.0 + (b - r) * scale;
        let from_blue = 4.0 + (r - g) * scale;
        let sector = if most == r { (g - b) * scale } else { from_blue };
        let sector = if most == g && most != r { from_green } else { sector };
        // In 0..6 of the circle, for each channel counted from its own darkest place. The sector is in -1..=5, the turn in ±3.
        let place = sector + turn;
        let place = if place < 0.0 { place + 6.0 } else { place };
        let place = if place >= 6.0 { place - 6.0 } else { place };
        let channel = |n: f32| {
            let k = if n + place >= 6.0 { n + place - 6.0 } else { n + place };
            most - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
        };
        *pixel = [channel(5.0), channel(3.0), channel(1.0)];
    }
}

/// Mean of one channel, summed in f64 over four lanes.
pub(super) fn mean(image: &[f32], channel: usize, channels: usize) -> f32 {
    let mut lanes = [0.0_f64; 4];
    for (i, &v) in image[channel..].iter().step_by(channels).enumerate() {
        lanes[i % 4] += f64::from(v);
    }
    let sum = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    (sum / (image.len() / channels) as f64) as f32
}
