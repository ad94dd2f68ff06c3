use super::*;

const GREEN: Pixel = [0x40, 0xe0, 0x40];

/// Draws a picture with these rows of text in one colour.
fn drawn(width: usize, height: usize, rows: &[&str]) -> Picture {
    let mut picture = Picture { width, height, pixels: vec![BLACK; width * height] };
    let scale = picture.scale();
    for (row, text) in rows.iter().enumerate() {
        for (column, character) in text.bytes().enumerate() {
            for (y, line) in glyph(character).iter().enumerate() {
                for x in (0..WIDTH).filter(|x| line >> (7 - x) & 1 != 0) {
                    for part in 0..scale * scale {
                        let x = (column * WIDTH + x) * scale + part % scale;
                        let y = (row * HEIGHT + y) * scale + part / scale;
                        picture.pixels[y * width + x] = GREEN;
                    }
                }
            }
        }
    }
    picture
}

fn ppm(picture: &Picture) -> Vec<u8> {
    let header = format!("P6\n{} {}\n255\n", picture.width, picture.height);
    [header.as_bytes(), picture.pixels.as_flattened()].concat()
}

const ROWS: [&str; 3] = ["pass: 4 of 4 {|}~", "", "  !\"#"];

#[test]
fn text_is_read_in_every_size() {
    for (width, height) in [(645, 485), (1280, 800), (2560, 1600), (3840, 2160)] {
        let picture = drawn(width, height, &ROWS);
        assert_eq!(Picture::parse(&ppm(&picture)).as_ref(), Ok(&picture));
        let rows = read(&picture).expect("readable");
        let found: Vec<_> = rows.iter().take(ROWS.len()).map(|row| (&*row.text, row.colour)).collect();
        assert_eq!(found, [(ROWS[0], GREEN), (ROWS[1], BLACK), (ROWS[2], GREEN)]);
        assert!(rows[ROWS.len()..].iter().all(|row| row.text.is_empty()));
    }
}

#[test]
fn every_character_differs_from_the_others() {
    let all: String = (b' '..=b'~').map(char::from).collect();
    assert_eq!(read(&drawn(1280, 800, &[&all])).expect("readable")[0].text, all);
}

#[test]
fn each_wrong_pixel_of_a_character_is_noticed() {
    for (width, height, scale) in [(40, 32, 1), (1936, 64, 2)] {
        let right = drawn(width, height, &["ab"]);
        for y in 0..HEIGHT * scale {
            for x in 0..2 * WIDTH * scale {
                let mut wrong = right.clone();
                let pixel = &mut wrong.pixels[y * width + x];
                *pixel = if *pixel == BLACK { GREEN } else { BLACK };
                // A wrong pixel may make another character. Then the text is wrong.
                let is_read = read(&wrong).is_ok_and(|rows| rows[0].text == "ab");
                assert!(!is_read, "pixel {x}, line {y}");
            }
        }
    }
}

#[test]
fn wrong_colours_and_edges_are_errors() {
    let right = drawn(645, 485, &["abc"]);
    let with = |x: usize, y: usize, pixel: Pixel| {
        let mut wrong = right.clone();
        wrong.pixels[y * 645 + x] = pixel;
        read(&wrong)
    };
    let set = |from: usize| {
        let is_set = |at: &usize| right.pixels[*at] != BLACK && at % 645 >= from;
        let at = (0..right.pixels.len()).find(is_set).expect("there must be a pixel");
        (at % 645, at / 645)
    };
    let (x, y) = set(8);
    assert_eq!(with(x, y, [1, 2, 3]), Err(ScreenError::Colours(0, x / 8)));
    assert_eq!(with(640, 0, GREEN), Err(ScreenError::Edge(0, 640)));
    assert_eq!(with(3, 480, GREEN), Err(ScreenError::Edge(480, 3)));
    let mut two = right.clone();
    two.pixels
        .iter_mut()
        .enumerate()
        .filter(|(at, pixel)| **pixel != BLACK && at % 645 >= 16)
        .for_each(|(_, pixel)| *pixel = [1, 2, 3]);
    assert_eq!(read(&two), Err(ScreenError::Row(0)));
}

#[test]
fn other_files_are_not_pictures() {
    let right = ppm(&drawn(640, 480, &[]));
    assert!(Picture::parse(&right).is_ok());
    for file in [
        &right[1..],
        &right[..right.len() - 1],
        &[],
        b"P6\n1 1\n255",
        b"P6\n1 1\n65535\n123",
        b"P6\n-1 1\n255\n",
    ] {
        assert_eq!(Picture::parse(file), Err(ScreenError::NotPpm));
    }
}
