//! Columns for a person: as wide as what is in them, two spaces apart.

/// Lines of aligned columns. The last column is not filled up, so that no line ends with spaces.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_aligned_and_lines_end_with_what_is_in_them() {
        let rows = [vec!["a", "bcd", ""], vec!["höhe", "e", "f"], vec!["g"]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect());
        assert_eq!(table(&rows), ["a     bcd", "höhe  e    f", "g"]);
        assert_eq!(table(&[]), Vec::<String>::new());
    }
}
