//! Tables, SVG pictures and the page
