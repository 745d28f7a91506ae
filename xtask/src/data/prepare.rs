//! Files as the examples want them, from those of the packages.

use super::unpack::Entry;

/// The package's file without a change.
pub fn as_it_is(entries: &[&Entry]) -> Result<Vec<u8>, String> {
    Ok(one(entries)?.to_vec())
}

fn one<'a>(entries: &[&'a Entry]) -> Result<&'a [u8], String> {
    match entries {
        [entry] => Ok(&entry.bytes),
        _ => Err(format!("{} files where one was expected", entries.len())),
    }
}

fn text<'a>(entries: &[&'a Entry]) -> Result<&'a str, String> {
    utf8(one(entries)?)
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|e| e.to_string())
}

/// Plays one after the other in the order of their paths, without Markdown: headings, bold and italic marks, backslashes, spaces at
/// line ends, and all but one of empty lines.
pub fn plays(entries: &[&Entry]) -> Result<Vec<u8>, String> {
    let mut plain = String::new();
    for entry in entries {
        let mut empty = true;
        for line in utf8(&entry.bytes)?.lines() {
            let line = line.trim_start_matches('#').replace("**", "").replace(['_', '\\'], "");
            let line = line.trim();
            if !(empty && line.is_empty()) {
                plain.push_str(line);
                plain.push('\n');
            }
            empty = line.is_empty();
        }
        if !empty {
            plain.push('\n');
        }
    }
    Ok(plain.into_bytes())
}

/// scikit-learn's tables begin with the numbers of rows and columns and the names of the classes, and end each row with the class's
/// number: ours begin with the names of the columns, and have the class's name.
fn named_columns(text: &str, columns: &[&str], label: &str, classes: &[&str]) -> Result<Vec<u8>, String> {
    let mut table = format!("{},{label}\n", columns.join(","));
    for (i, line) in text.lines().enumerate().skip(1) {
        let class = line.rsplit_once(',').and_then(|(values, class)| Some((values, classes.get(class.parse::<usize>().ok()?)?)));
        let (values, class) = class.ok_or_else(|| format!("line {}: no class", i + 1))?;
        table.push_str(&format!("{values},{class}\n"));
    }
    Ok(table.into_bytes())
}

/// The Wisconsin diagnostic data: mean, standard error and largest value of ten measures.
fn breast_cancer(entries: &[&Entry]) -> Result<Vec<u8>, String> {
    let measures = [
        "radius",
        "texture",
        "perimeter",
        "area",
        "smoothness",
        "compactness",
        "concavity",
        "concave_points",
        "symmetry",
        "fractal_dimension",
    ];
    let columns: Vec<String> =
        ["mean", "error", "worst"].iter().flat_map(|kind| measures.map(|measure| format!("{kind}_{measure}"))).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    named_columns(text(entries)?, &columns, "diagnosis", &["malignant", "benign"])
}

/// The same with a column `part`: every fifth row is for the test.
pub fn breast_cancer_in_parts(entries: &[&Entry]) -> Result<Vec<u8>, String> {
    let table = breast_cancer(entries)?;
    let rows = utf8(&table)?.lines().enumerate().map(|(i, line)| {
        let part = match i {
            0 => "part",
            _ if i % 5 == 0 => "test",
            _ => "train",
        };
        format!("{line},{part}\n")
    });
    Ok(rows.collect::<String>().into_bytes())
}

/// Measures of benign cells without the diagnosis: four of five rows.
pub fn benign(entries: &[&Entry]) -> Result<Vec<u8>, String> {
    measures(entries, "benign", |row| row % 5 != 4)
}

/// Measures of benign cells without the diagnosis: the fifth rows.
pub fn benign_test(entries: &[&Entry]) -> Result<Vec<u8>, String> {
    measures(entries, "benign", |row| row % 5 == 4)
}

/// Measures of malignant cells without the diagnosis.
pub fn malignant(entries: &[&Entry]) -> Result<Vec<u8>, String> {
    measures(entries, "malignant", |_| true)
}

/// The measures of those rows of a diagnosis that `take` says, by their number among them.
fn measures(entries: &[&Entry], diagnosis: &str, take: fn(usize) -> bool) -> Result<Vec<u8>, String> {
    let table = breast_cancer(entries)?;
    let mut rows = utf8(&table)?.lines().filter_map(|line| line.rsplit_once(','));
    let names = rows.next().map_or("", |(names, _)| names);
    let rows = rows.filter(|(_, found)| *found == diagnosis).map(|(values, _)| values);
    let taken = rows.enumerate().filter(|(i, _)| take(*i)).map(|(_, values)| values);
    Ok([names].into_iter().chain(taken).flat_map(|line| [line, "\n"]).collect::<String>().into_bytes())
}

/// Italian wines of three growers.
pub fn wine(entries: &[&Entry]) -> Result<Vec<u8>, String> {
    let columns = [
        "alcohol",
        "malic_acid",
        "ash",
        "alcalinity_of_ash",
        "magnesium",
        "total_phenols",
        "flavanoids",
        "nonflavanoid_phenols",
        "proanthocyanins",
        "color_intensity",
        "hue",
        "od280_od315",
        "proline",
    ];
    named_columns(text(entries)?, &columns, "grower", &["first", "second", "third"])
}

/// Orange's table has tabs between values, and two lines on types below the names.
pub fn ratings(entries: &[&Entry]) -> Result<Vec<u8>, String> {
    let rows = text(entries)?.lines().enumerate().filter(|(i, _)| ![1, 2].contains(i));
    let rows = rows.map(|(i, line)| if i == 0 { "user,movie,rating,time".into() } else { line.replace('\t', ",") });
    Ok(rows.flat_map(|line: String| [line, "\n".into()]).collect::<String>().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(prepare: fn(&[&Entry]) -> Result<Vec<u8>, String>, text: &str) -> Result<String, String> {
        let entry = Entry { path: "x".into(), bytes: text.as_bytes().to_vec() };
        prepare(&[&entry]).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn plays_lose_their_marks() {
        let text = "# Title\n\n## ACT I\n\n_Enter A_\n\n**A**  \nOne,  \ntwo.\n\n\n**B**  \n\\[_Aside_\\] three.\n";
        assert_eq!(made(plays, text).unwrap(), "Title\n\nACT I\n\nEnter A\n\nA\nOne,\ntwo.\n\nB\n[Aside] three.\n\n");
    }

    #[test]
    fn tables_get_names() {
        let table = made(wine, "178,13,class_0,class_1,class_2\n1,2,2\n").unwrap();
        assert!(table.starts_with("alcohol,") && table.ends_with(",grower\n1,2,third\n"), "{table}");
        assert_eq!(made(wine, "1,1,a\n1,2,3\n").unwrap_err(), "line 2: no class");
        let table =
            made(ratings, "user\tmovie\tscore\ttid\nc\tc\tc\ttime\nrow=1\tcol=1\tclass\tmeta\n196\t242\t3\t881\n").unwrap();
        assert_eq!(table, "user,movie,rating,time\n196,242,3,881\n");
    }

    #[test]
    fn parts_and_diagnoses_are_told_apart() {
        let text = "6,1,malignant,benign\n0,1\n1,0\n2,1\n3,1\n4,1\n5,1\n";
        let rows = |prepare| made(prepare, text).unwrap().lines().skip(1).map(str::to_string).collect::<Vec<_>>();
        assert_eq!(rows(breast_cancer_in_parts)[3..], ["3,benign,train", "4,benign,test", "5,benign,train"]);
        assert_eq!(rows(benign), ["0", "2", "3", "4"]);
        assert_eq!((rows(benign_test), rows(malignant)), (vec!["5".into()], vec!["1".into()]));
    }
}
