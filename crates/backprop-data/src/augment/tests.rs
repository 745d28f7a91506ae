use proptest::prelude::*;

use super::geometry::{Affine, Edge};
use super::*;

fn draw(seed: u64, epoch: u64, row: u64) -> Draw {
    Draw { seed, epoch, row }
}

/// The image `0, 1, 2, …`, changed.
fn counted(augment: &Augment, shape: [usize; 3], at: Draw) -> Vec<f32> {
    let mut image: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| (i % 251) as f32).collect();
    augment.apply(&mut image, &mut Vec::new(), shape, at).unwrap();
    image
}

fn warped(image: &[f32], shape: [usize; 3], map: Affine, edge: Edge) -> Vec<f32> {
    let mut image = image.to_vec();
    let mut scratch = image.clone();
    geometry::warp(&mut image, &mut scratch, shape, map, edge);
    image
}

fn shifted(image: &[f32], shape: [usize; 3], by: [isize; 2], mirror: [bool; 2], edge: Edge) -> Vec<f32> {
    let mut image = image.to_vec();
    let mut scratch = image.clone();
    geometry::shift(&mut image, &mut scratch, shape, by, mirror, edge);
    image
}

/// An augmentation with everything on.
fn everything() -> Augment {
    Augment {
        flip: Some(Flip::Both),
        crop: 2,
        rotate: Some(30.0),
        scale: Some([0.8, 1.25]),
        translate: Some(0.1),
        padding: Padding::Reflect,
        random_resized_crop: Some([0.5, 1.0]),
        brightness: Some(0.3),
        contrast: Some(0.3),
        saturation: Some(0.3),
        hue: Some(0.1),
        erase: Some(0.5),
    }
}

#[test]
fn nothing_is_changed_by_default() {
    let image = counted(&Augment::default(), [3, 4, 3], draw(0, 0, 0));
    assert!(image.into_iter().eq((0..36).map(|i| i as f32)));
    assert!(Augment::default().is_none() && !everything().is_none());
}

#[test]
fn unknown_keys_are_refused_and_settings_survive_their_text() {
    assert!(toml::from_str::<Augment>("flipp = 'both'").unwrap_err().to_string().contains("flipp"));
    assert!(toml::from_str::<Augment>("flip = 'sideways'").is_err());
    let text = toml::to_string(&everything()).unwrap();
    assert_eq!(toml::from_str::<Augment>(&text).unwrap(), everything());
    assert_eq!(toml::to_string(&Augment::default()).unwrap(), "");
}

#[test]
fn shifts_by_hand() {
    let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let show = |by, mirror, edge| shifted(&image, [2, 3, 1], by, mirror, edge);
    assert_eq!(show([0, 1], [false, false], Edge::Zero), [2.0, 3.0, 0.0, 5.0, 6.0, 0.0]);
    assert_eq!(show([0, -1], [false, false], Edge::Zero), [0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
    assert_eq!(show([0, -1], [false, false], Edge::Reflect), [2.0, 1.0, 2.0, 5.0, 4.0, 5.0]);
    assert_eq!(show([1, 0], [false, false], Edge::Zero), [4.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
    assert_eq!(show([1, 0], [false, false], Edge::Reflect), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
    assert_eq!(show([0, 1], [false, true], Edge::Zero), [0.0, 3.0, 2.0, 0.0, 6.0, 5.0]);
    assert_eq!(show([0, 0], [true, false], Edge::Zero), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
    assert_eq!(show([9, 9], [true, true], Edge::Zero), [0.0; 6]);
    // Pixels of two channels move whole.
    assert_eq!(shifted(&image, [1, 3, 2], [0, 1], [false, true], Edge::Zero), [0.0, 0.0, 5.0, 6.0, 3.0, 4.0]);
}

#[test]
fn reflection_does_not_repeat_the_edge() {
    let seen: Vec<Option<usize>> = (-4..8).map(|i| Edge::Reflect.index(i, 3)).collect();
    assert_eq!(seen, [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1].map(Some));
    assert!((-3..3).all(|i| Edge::Reflect.index(i, 1) == Some(0)));
    assert_eq!([Edge::Clamp.index(-5, 3), Edge::Clamp.index(5, 3), Edge::Zero.index(3, 3)], [Some(0), Some(2), None]);
}

#[test]
fn quarter_turns_are_exact() {
    assert_eq!([0.0, 90.0, 180.0, -90.0].map(geometry::sin_cos), [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)]);
    let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let turn = |degrees| warped(&image, [3, 3, 1], Affine::about_centre([3, 3], degrees, 1.0, [0.0; 2]), Edge::Zero);
    assert_eq!(turn(90.0), [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0]);
    assert_eq!(turn(180.0), [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
    assert_eq!(turn(0.0), image);
}

#[test]
fn sines_are_those_of_the_system_to_their_last_bits() {
    for tenth in -1800..=1800 {
        let degrees = f64::from(tenth) / 10.0;
        let (sin, cos) = geometry::sin_cos(degrees);
        let (s, c) = degrees.to_radians().sin_cos();
        assert!((sin - s).abs() < 1e-15 && (cos - c).abs() < 1e-15, "{degrees}");
    }
}

#[test]
fn maps_by_hand() {
    let image = [10.0, 20.0, 30.0, 40.0];
    let map = |factor, shift| Affine::about_centre([1, 4], 0.0, factor, [0.0, shift]);
    // Half a pixel to the right: the mean of two, zero beyond the edge.
    assert_eq!(warped(&image, [1, 4, 1], map(1.0, 0.5), Edge::Zero), [5.0, 15.0, 25.0, 35.0]);
    assert_eq!(warped(&image, [1, 4, 1], map(1.0, 0.5), Edge::Reflect), [15.0, 15.0, 25.0, 35.0]);
    // Twice as large about the centre 1.5.
    assert_eq!(warped(&image, [1, 4, 1], map(2.0, 0.0), Edge::Zero), [17.5, 22.5, 27.5, 32.5]);
    // The left half, enlarged: pixel centres at 0.25, 0.75, 1.25, 1.75 of the image.
    assert_eq!(warped(&image, [1, 4, 1], Affine::cut(0.0, 0.0, 1.0, 0.5), Edge::Clamp), [10.0, 12.5, 17.5, 22.5]);
    // Channels do not mix, however many there are.
    let (two, three) = ([10.0, 1.0, 20.0, 2.0], [10.0, 1.0, 0.0, 20.0, 2.0, 0.0]);
    let half = Affine::about_centre([1, 2], 0.0, 1.0, [0.0, 0.5]);
    assert_eq!(warped(&two, [1, 2, 2], half, Edge::Zero), [5.0, 0.5, 15.0, 1.5]);
    assert_eq!(warped(&three, [1, 2, 3], half, Edge::Zero), [5.0, 0.5, 0.0, 15.0, 1.5, 0.0]);
}

#[test]
fn colours_by_hand() {
    let change = |f: &dyn Fn(&mut [f32])| {
        let mut image = [100.0, 50.0, 0.0, 20.0, 20.0, 20.0];
        f(&mut image);
        image
    };
    assert_eq!(change(&|i| colour::brightness(i, 3.0)), [255.0, 150.0, 0.0, 60.0, 60.0, 60.0]);
    // Means of the channels 60, 35, 10: the grey is 39.625.
    let grey = 0.299 * 60.0 + 0.587 * 35.0 + 0.114 * 10.0;
    let contrast = change(&|i| colour::contrast(i, 3, 0.5));
    assert!(contrast.iter().zip([100.0, 50.0, 0.0, 20.0, 20.0, 20.0]).all(|(a, b)| (a - (grey + b) / 2.0).abs() < 1e-4));
    let pale = change(&|i| colour::saturation(i, 0.0));
    assert!((pale[0] - 59.25).abs() < 1e-4 && pale[0] == pale[1] && pale[1] == pale[2] && (pale[3] - 20.0).abs() < 1e-4);
    // A third of the circle: red becomes green; grey stays.
    assert!(
        change(&|i| colour::hue(i, 1.0 / 3.0))
            .iter()
            .zip([0.0, 100.0, 50.0, 20.0, 20.0, 20.0])
            .all(|(a, b)| (a - b).abs() < 1e-3)
    );
    assert!(
        change(&|i| colour::hue(i, -1.0 / 3.0))
            .iter()
            .zip([50.0, 0.0, 100.0, 20.0, 20.0, 20.0])
            .all(|(a, b)| (a - b).abs() < 1e-3)
    );
    assert_eq!(colour::mean(&[1.0, 9.0, 2.0, 9.0, 6.0, 9.0], 0, 2), 3.0);
}

#[test]
fn hue_keeps_largest_and_smallest_channel() {
    for i in 0..1000_u64 {
        let value = |k| (mix(3 * i + k) % 256) as f32;
        let pixel = [value(0), value(1), value(2)];
        let mut turned = pixel;
        colour::hue(&mut turned, (i as f32 / 1000.0) - 0.5);
        let extent = |p: [f32; 3]| (p[0].max(p[1]).max(p[2]), p[0].min(p[1]).min(p[2]));
        let ((a, b), (c, d)) = (extent(pixel), extent(turned));
        assert!((a - c).abs() < 1e-3 && (b - d).abs() < 1e-3, "{pixel:?} {turned:?}");
        colour::hue(&mut turned, 0.5 - (i as f32 / 1000.0));
        assert!(pixel.iter().zip(turned).all(|(a, b)| (a - b).abs() < 1e-2), "{pixel:?} {turned:?}");
    }
}

#[test]
fn draws_have_their_probabilities_and_ranges() {
    let n = 4000;
    let flip = Augment { flip: Some(Flip::Both), ..Augment::default() };
    let erase = Augment { erase: Some(0.25), ..Augment::default() };
    let crop = Augment { crop: 1, ..Augment::default() };
    let (mut flips, mut erased, mut shifts) = ([0; 4], 0, [0; 9]);
    for row in 0..n {
        let at = draw(5, 1, row);
        let image = counted(&flip, [2, 2, 1], at);
        flips[image[0] as usize] += 1;
        erased += usize::from(counted(&erase, [6, 6, 1], at).iter().enumerate().any(|(i, &v)| v != i as f32));
        // The pixel that comes to the middle of 3 by 3 tells the shift.
        shifts[counted(&crop, [3, 3, 1], at)[4] as usize] += 1;
    }
    // Five deviations of the binomial distribution.
    let near = |count: usize, p: f64| (count as f64 - p * n as f64).abs() < 5.0 * (p * (1.0 - p) * n as f64).sqrt();
    assert!(flips.iter().all(|&c| near(c, 0.25)), "{flips:?}");
    assert!(near(erased, 0.25), "{erased}");
    assert!(shifts.iter().all(|&c| near(c, 1.0 / 9.0)), "{shifts:?}");

    let bright = Augment { brightness: Some(0.5), ..Augment::default() };
    let mut factors: Vec<f32> = (0..n)
        .map(|row| {
            let mut image = [100.0];
            bright.apply(&mut image, &mut Vec::new(), [1, 1, 1], draw(5, 1, row)).unwrap();
            image[0] / 100.0
        })
        .collect();
    factors.sort_by(f32::total_cmp);
    assert!(factors[0] >= 0.5 && factors[0] < 0.51 && factors[3999] <= 1.5 && factors[3999] > 1.49);
    assert!((factors[2000] - 1.0).abs() < 0.05 && (factors[1000] - 0.75).abs() < 0.05);
}

#[test]
fn geometry_is_drawn_within_its_ranges() {
    let augment = Augment {
        rotate: Some(10.0),
        scale: Some([0.9, 1.1]),
        translate: Some(0.25),
        random_resized_crop: Some([0.25, 0.5]),
        ..Augment::default()
    };
    let (mut turns, mut areas) = (Vec::new(), Vec::new());
    for row in 0..2000 {
        let draws = Draws::new(draw(1, 2, row));
        let map = augment.affine(draws, [40, 80, 3]).unwrap();
        let factor = 1.0 / map.xx.hypot(map.yx);
        assert!((0.899..1.101).contains(&factor));
        turns.push(map.yx.atan2(map.xx).to_degrees());
        // The centre of the image comes from its centre, less the shift.
        let (y, x) = (map.yy * 19.5 + map.yx * 39.5 + map.y0, map.xy * 19.5 + map.xx * 39.5 + map.x0);
        let shift = (y - 19.5).hypot(x - 39.5);
        assert!(shift <= 1.12 * 10.0_f32.hypot(20.0));
        let cut = augment.resized_crop(draws, [40, 80, 3]).unwrap();
        let (h, w) = (cut.yy * 40.0, cut.xx * 80.0);
        let (top, left) = (cut.y0 + 0.5 - 0.5 * cut.yy, cut.x0 + 0.5 - 0.5 * cut.xx);
        assert!(top > -1e-3 && left > -1e-3 && top + h < 40.001 && left + w < 80.001);
        assert!((0.74..1.34).contains(&(w / h)), "{w} {h}");
        areas.push(h * w / 3200.0);
    }
    for (values, low, high) in [(&mut turns, -10.0, 10.0), (&mut areas, 0.25, 0.5)] {
        values.sort_by(f32::total_cmp);
        let slack = 0.02 * (high - low);
        assert!((values[0] - low).abs() < slack && (values[1999] - high).abs() < slack, "{} {}", values[0], values[1999]);
        assert!((values[1000] - (low + high) / 2.0).abs() < 4.0 * slack);
    }
}

#[test]
fn erasing_covers_a_rectangle_by_the_mean() {
    let augment = Augment { erase: Some(1.0), ..Augment::default() };
    for row in 0..200 {
        let image = counted(&augment, [10, 12, 2], draw(0, 0, row));
        let covered: Vec<usize> = (0..120).filter(|&i| image[2 * i] != (2 * i) as f32).collect();
        // Means of 0, 2, … 238 and of 1, 3, … 239; a pixel of the same value would not show, but there is none.
        assert!(covered.iter().all(|&i| image[2 * i] == 119.0 && image[2 * i + 1] == 120.0));
        let (rows, columns): (Vec<_>, Vec<_>) = covered.iter().map(|i| (i / 12, i % 12)).unzip();
        let extent = |v: &[usize]| v.iter().max().unwrap() - v.iter().min().unwrap() + 1;
        assert_eq!(extent(&rows) * extent(&columns), covered.len());
        assert!((1..=48).contains(&covered.len()), "{}", covered.len());
    }
}

#[test]
fn a_draw_depends_on_seed_epoch_and_row_alone() {
    let augment = everything();
    let image = |at| counted(&augment, [9, 7, 3], at);
    let first = image(draw(1, 2, 3));
    assert_eq!(first, image(draw(1, 2, 3)));
    for other in [draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4), draw(2, 1, 3)] {
        assert_ne!(first, image(other));
    }
    // A scratch that another, larger image was in changes nothing.
    let mut scratch = vec![f32::NAN; 1000];
    let mut again: Vec<f32> = (0..189).map(|i| (i % 251) as f32).collect();
    augment.apply(&mut again, &mut scratch, [9, 7, 3], draw(1, 2, 3)).unwrap();
    assert_eq!(first, again);
}

#[test]
fn changes_draw_for_themselves() {
    let flip = Augment { flip: Some(Flip::Horizontal), ..Augment::default() };
    let more = Augment { brightness: Some(0.0), contrast: Some(0.0), erase: Some(0.0), ..flip.clone() };
    for row in 0..50 {
        assert_eq!(counted(&flip, [3, 5, 1], draw(0, 0, row)), counted(&more, [3, 5, 1], draw(0, 0, row)));
    }
}

/// The values are part of the checkpoint contract: a resumed run must see the images it would have seen.
#[test]
fn the_bits_are_a_contract() {
    let mut sum = 0_u64;
    for row in 0..20 {
        for value in counted(&everything(), [13, 11, 3], draw(7, 3, row)) {
            sum = mix(sum ^ u64::from(value.to_bits()));
        }
    }
    assert_eq!(format!("{sum:016x}"), "30ffd919d9a1456c");
}

#[test]
fn settings_out_of_range_are_named() {
    let message = |augment: Augment, shape: &[usize]| augment.check(shape).unwrap_err().to_string();
    let off = Augment::default;
    assert_eq!(message(Augment { rotate: Some(181.0), ..off() }, &[8, 8, 1]), "augment.rotate must be degrees from 0 to 180");
    assert_eq!(
        message(Augment { hue: Some(f32::NAN), ..off() }, &[8, 8, 3]),
        "augment.hue must be a share of the colour circle from 0 to 0.5"
    );
    assert_eq!(
        message(Augment { saturation: Some(0.1), ..off() }, &[8, 8, 1]),
        "augment.saturation needs images of 3 channels, these have 1; remove it"
    );
    assert_eq!(
        message(Augment { crop: 8, ..off() }, &[8, 9, 1]),
        "augment.crop 8 pixels would leave nothing of images of 8×9 pixels"
    );
    for scale in [[1.1, 0.9], [0.0, 1.0], [f32::NAN, 1.0], [1.0, f32::INFINITY]] {
        assert!(message(Augment { scale: Some(scale), ..off() }, &[8, 8, 1]).starts_with("augment.scale must be two factors"));
    }
    assert!(message(Augment { random_resized_crop: Some([0.5, 1.5]), ..off() }, &[8, 8, 1]).contains("shares above 0 up to 1"));
    assert!(message(Augment { erase: Some(0.5), ..off() }, &[13]).contains("the input has shape [13]"));
    assert!(off().check(&[13]).is_ok() && everything().check(&[8, 8, 3]).is_ok());
    let mut image = [0.0; 5];
    assert!(everything().apply(&mut image, &mut Vec::new(), [2, 2, 1], draw(0, 0, 0)).is_err());
}

proptest! {
    #[test]
    fn no_shape_and_no_setting_makes_it_panic(
        shape in [0_usize..9, 0_usize..9, 0_usize..6],
        row: u64,
        numbers in prop::collection::vec(prop_oneof![-2.0_f32..4.0, any::<f32>()], 11),
        crop in prop_oneof![0_usize..20, any::<usize>()],
        reflect: bool,
    ) {
        let padding = if reflect { Padding::Reflect } else { Padding::Zero };
        let number = |i: usize| Some(numbers[i]);
        let augment = Augment {
            flip: Some(Flip::Both), crop, rotate: number(0), scale: Some([numbers[1], numbers[2]]), translate: number(3), padding,
            random_resized_crop: Some([numbers[4], numbers[5]]), brightness: number(6), contrast: number(7), saturation: number(8),
            hue: number(9), erase: number(10),
        };
        counted(&augment, shape, draw(1, 1, row));
    }

    #[test]
    fn mirrored_twice_is_as_before(shape in [1_usize..9, 1_usize..9, 1_usize..6]) {
        let image: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
        for mirror in [[true, false], [false, true], [true, true]] {
            let once = shifted(&image, shape, [0, 0], mirror, Edge::Zero);
            prop_assert_eq!(&image, &shifted(&once, shape, [0, 0], mirror, Edge::Zero));
        }
        let mut quick = image.clone();
        geometry::mirror_rows(&mut quick, shape);
        prop_assert_eq!(quick, shifted(&image, shape, [0, 0], [false, true], Edge::Zero));
    }

    #[test]
    fn colours_stay_colours(row: u64) {
        let image = counted(&everything(), [8, 8, 3], draw(3, 0, row));
        prop_assert!(image.iter().all(|v| (-0.01..=255.01).contains(v)));
    }
}
