//! Implicit convolution without gathered patches: a tile is neighbouring output pixels of one line, and their patches are runs of lines of the
//! image, read where they lie. Only of windows that are dense across, whose lines of taps are such runs.
//!
//! A work item is some output lines × one panel. Where the image is padded, the lines that an item needs are first copied between pads;
//! the panels of the same lines come one after the other.

use super::emit::{Emitter, Kernel, Value};
use super::gemm::{GemmSpec, convolution_args, operands};
use super::patches::{self, Geometry};
use super::tile::{Tile, amx, tile_name};

/// How lines are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lines {
    /// Output lines of a work item, at most.
    pub count: usize,
    /// Pixels of an output line.
    pub pixels: usize,
    /// Whether the window reaches outside the image.
    pub padded: bool,
}

/// Bytes of scratch for `lines` lines of the image, each of `span` bytes, between pads.
pub fn staged_bytes(lines: u64, span: u64) -> u64 {
    lines * patches::row_stride(span)
}

/// The kernel's loop over work items; `amx_scratch` is for the tiles of AMX.
pub(super) fn drive(
    e: &mut Emitter,
    spec: &GemmSpec,
    lines: Lines,
    name: &str,
    k: &Kernel,
    amx_scratch: Value,
) {
    let args = convolution_args();
    let (t, _, columns) = operands(e, k);
    let g = Geometry::read(e, k, &args);
    let (nr, size) = (spec.nr as i64, spec.epilogue.output.bytes());
    let panels = e.ceil_div(columns, nr);
    let blocks = e.ceil_div(g.out_height, lines.count as i64);
    let run_bytes = spec.product.panel_bytes_value(e, nr, t.depth);
    let panel_bytes = e.mul(run_bytes, g.kernel_height);
    let row_bytes = e.mul(g.width, g.pixel_bytes);
    let one = e.int(1);
    let last = e.int(lines.pixels as i64 - 1);
    let across = e.mul(last, g.stride_w);
    let across = e.add(across, g.kernel_width);
    let span = e.mul(across, g.pixel_bytes);
    let staged_stride = patches::row_stride_value(e, span);
    let staging = e.offset(k.scratch, spec.tile_bytes() as i64);
    let line_stride = if lines.padded { staged_stride } else { row_bytes };
    let nothing = e.int(-1);
    e.repeat(k.begin, k.end, one, &[nothing], |e, item, staged| {
        let (block, panel) = (e.div(item, panels), e.rem(item, panels));
        let (batch, within) = (e.div(block, blocks), e.rem(block, blocks));
        let first = e.times(within, lines.count as i64);
        let left = e.sub(g.out_height, first);
        let most = e.int(lines.count as i64);
        let count = e.min_int(left, most);
        let top = e.mul(first, g.stride_h);
        let top = e.sub(top, g.pad_top);
        let image_lines = e.mul(batch, g.height);
        let a = if lines.padded {
            let fresh = e.compare("ne", block, staged[0]);
            e.when(fresh, |e| {
                let bytes = e.mul(image_lines, row_bytes);
                let image = e.at(t.a.0, bytes);
                let below = e.sub(count, one);
                let below = e.mul(below, g.stride_h);
                let taps = e.sub(g.kernel_height, one);
                let taps = e.mul(taps, g.dilation_h);
                let needed = e.add(below, taps);
                let needed = e.add(needed, one);
                patches::copy_lines(e, &g, image, (top, needed), (staging, staged_stride), span);
            });
            staging
        } else {
            let line = e.add(image_lines, top);
            let bytes = e.mul(line, row_bytes);
            e.at(t.a.0, bytes)
        };
        let column = e.times(panel, nr);
        let width = e.sub(columns, column);
        let nr_value = e.int(nr);
        let whole = e.compare("sge", width, nr_value);
        let out_line = e.mul(batch, g.out_height);
        let out_line = e.add(out_line, first);
        let pixel = e.times(out_line, lines.pixels as i64);
        let bytes = e.mul(pixel, t.c.1);
        let result = e.at(t.c.0, bytes);
        let result = e.element(result, column, size);
        let tile_stride = e.int(nr * size);
        let c = e.select(whole, result, k.scratch);
        let c_stride = e.select(whole, t.c.1, tile_stride);
        let by_column = e.times(column, 4);
        let [corrections, multipliers, bias, bounds] =
            [t.corrections, t.multipliers, t.bias, t.bounds].map(|p| e.at(p, by_column));
        let start = e.mul(panel, panel_bytes);
        let panel = e.at(t.panel, start);
        let a_stride = e.mul(g.stride_w, g.pixel_bytes);
        let run_stride = e.mul(g.dilation_h, line_stride);
        let at_panel =
            Tile { panel, corrections, multipliers, bias, bounds, runs: (g.kernel_height, run_stride), ..t };
        let zero = e.int(0);
        let (mr, rest) = (spec.mr, lines.pixels % spec.mr);
        e.each(zero, count, |e, line| {
            let down = e.mul(line, g.stride_h);
            let down = e.mul(down, line_stride);
            let a = e.at(a, down);
            let pixels = e.times(line, lines.pixels as i64);
            let down = e.mul(pixels, c_stride);
            let c = e.at(c, down);
            let tile_at = |e: &mut Emitter, x: Value| {
                let a_bytes = e.mul(x, a_stride);
                let c_bytes = e.mul(x, c_stride);
                Tile { a: (e.at(a, a_bytes), a_stride), c: (e.at(c, c_bytes), c_stride), ..at_panel }
            };
            if spec.amx {
                let pixels = e.int(lines.pixels as i64);
                amx::each_tile(e, spec, name, t.depth, pixels, amx_scratch, |e, x| (tile_at(e, x), panel));
                return;
            }
            let call = |e: &mut Emitter, x: Value, variant: usize| {
                let tile = tile_at(e, x);
                e.call(&tile_name(name, variant), &tile.values());
            };
            let (done, step) = (e.int((lines.pixels - rest) as i64), e.int(mr as i64));
            if lines.pixels >= mr {
                e.repeat(zero, done, step, &[], |e, x, _| {
                    call(e, x, mr);
                    Vec::new()
                });
            }
            if rest > 0 {
                call(e, done, rest);
            }
        });
        let partial = e.compare("slt", width, nr_value);
        e.when(partial, |e| {
            let bytes = e.times(width, size);
            let rows = e.times(count, lines.pixels as i64);
            e.each(zero, rows, |e, row| {
                let from = e.element(k.scratch, row, nr * size);
                let to = e.mul(row, t.c.1);
                let to = e.at(result, to);
                e.copy_exact(to, from, bytes);
            });
        });
        vec![block]
    });
}
