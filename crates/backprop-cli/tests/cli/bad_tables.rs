//! Tables and series that cannot be used: each is refused with its place and a remedy.

use super::Workplace;
use super::bad_input::refuses;

/// A regression on `table.csv`; `data` are further lines of its table `[data]`.
fn model(data: &str) -> String {
    format!(
        "[data]\npath = \"table.csv\"\n{data}\n\n[[layers]]\ntype = \"flatten\"\n[[layers]]\ntype = \"linear\"\n\
         out_features = 1\n\n[loss]\ntype = \"mse\"\n[optimizer]\ntype = \"sgd\"\nlearning_rate = 0.01\n[train]\nepochs = 1\n"
    )
}

/// Trains on a table and compares what is said with the file of that name.
fn refuses_table(name: &str, table: impl AsRef<[u8]>, data: &str) {
    let place = Workplace::new();
    place.write("table.csv", table);
    let source = if data.contains("source") { String::new() } else { "source = \"csv\"\n".to_string() };
    place.write("model.toml", model(&format!("{source}{data}")));
    refuses(name, &place, &["train", "model.toml", "--out", "run"]);
    assert!(!place.path("run").exists(), "{name}: a run folder was left behind");
}

/// A header and rows of three columns.
fn good(rows: usize) -> String {
    let rows: String = (0..rows).map(|i| format!("{},{},{}.5\n", i * 7 % 13, ["red", "green"][i % 2], i * 3)).collect();
    format!("size,colour,price\n{rows}")
}

#[test]
fn files_of_tables() {
    refuses_table("table_empty", "", "");
    refuses_table("table_header_only", "size,colour,price\n", "");
    refuses_table("table_one_row", good(1), "");
    refuses_table("table_ragged", good(30).replacen("7,green,3.5", "7,green,3.5,9", 1), "");
    refuses_table("table_open_quote", good(30).replacen("7,green", "7,\"green", 1), "");
    refuses_table("table_not_utf8", [good(20).as_bytes(), b"5,gr\xfcn,7.5\n"].concat(), "");
    refuses_table(
        "table_utf16",
        [&[0xff, 0xfe][..], &good(20).encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()].concat(),
        "",
    );
    refuses_table("table_nul", good(30).replacen("7,green", "7,gre\0en", 1), "");
    refuses_table("table_delimiter", good(30), "delimiter = \"é\"");
    let place = Workplace::new();
    place.write("model.toml", model("source = \"csv\"").replace("table.csv", "tables/*.csv"));
    refuses("table_no_match", &place, &["train", "model.toml"]);
}

#[test]
fn columns_of_tables() {
    refuses_table("table_unknown_target", good(30), "target = \"prize\"");
    refuses_table("table_unknown_input", good(30), "input = \"size,color\"");
    refuses_table("table_unknown_exclude", good(30), "exclude = [\"weight\"]");
    refuses_table("table_unknown_type", good(30), "types = { color = \"category\" }");
    refuses_table("table_unknown_type_name", good(30), "types = { colour = \"categorical\" }");
    refuses_table("table_no_input", good(30), "exclude = [\"size\", \"colour\"]");
    refuses_table("table_target_is_input", good(30), "input = \"size,price\"");
    refuses_table("table_not_a_number", good(30), "types = { colour = \"number\" }");
    let all_missing: String = (0..30).map(|i| format!("{i},?\n")).collect();
    refuses_table("table_targets_missing", format!("size,price\n{all_missing}"), "");
    refuses_table("table_text_for_regression", good(30), "target = \"colour\"\ntask = \"regression\"");
    refuses_table("table_one_class", good(30).replace("green", "red"), "target = \"colour\"");
    let different: String = (0..30).map(|i| format!("{i},word{i}\n")).collect();
    refuses_table("table_classes_like_rows", format!("size,name\n{different}"), "");
    refuses_table("table_log_of_zero", good(30), "target = \"size\"\nnormalize_target = \"log\"\ntask = \"regression\"");
    refuses_table("table_part_name", good(30), "split_column = \"colour\"");
    refuses_table("table_two_splits", good(30), "split_column = \"colour\"\nsplit_by = \"size\"");
}

#[test]
fn series() {
    let hours = |rows: usize| {
        let rows: String = (0..rows).map(|i| format!("2024-03-{:02} {:02}:00,{i}.5\n", 1 + i / 24, i % 24)).collect();
        format!("time,heat\n{rows}")
    };
    let source = "source = \"series\"\ntime = \"time\"\nwindow = ";
    refuses_table("series_window_too_long", hours(40), &format!("{source}50"));
    refuses_table("series_window_zero", hours(40), &format!("{source}0"));
    refuses_table("series_out_of_order", hours(40).replacen("2024-03-01 05", "2024-03-09 05", 1), &format!("{source}3"));
    refuses_table("series_no_time", hours(40).replacen("2024-03-01 05:00", "five", 1), &format!("{source}3"));
    refuses_table("series_unknown_time", hours(40), "source = \"series\"\ntime = \"when\"\nwindow = 3");
    refuses_table("series_words", good(60), "source = \"series\"\nwindow = 3\ninput = \"size,colour\"");
}
