import type { NameTable } from '../name-table.js'

/**
 * RRDBNet with the names of BasicSR (Real-ESRGAN), those of ESRGAN's first program, where activations and upsamplings
 * count as layers, or those of its second (BSRGAN).
 */
export const RRDB_NAMES: NameTable = {
  prefixes: ['params_ema.', 'params.', 'model.params_ema.', 'module.', ''],
  renames: [
    // the first program: 0 is the first layer, 1 all blocks with the layer after them
    [/^model\.0\./, 'conv_first.'],
    [/^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\./, 'body.$1.rdb$2.conv$3.'],
    [/^model\.1\.sub\.\d+\.(weight|bias)$/, 'conv_body.$1'],
    // each doubling is three layers (upsampling, convolution, activation), and the last two convolutions follow
    [/^model\.3\./, 'conv_up1.'],
    [/^model\.6\./, 'conv_up2.'],
    [/^model\.9\./, 'conv_up3.'],
    [/^model\.(2|5|8|11)\./, 'conv_hr.'],
    [/^model\.(4|7|10|13)\./, 'conv_last.'],
    // the second program
    [/^RRDB_trunk\.(\d+)\.RDB(\d)\./, 'body.$1.rdb$2.'],
    [/^trunk_conv\./, 'conv_body.'],
    [/^upconv(\d)\./, 'conv_up$1.'],
    [/^HRconv\./, 'conv_hr.'],
  ],
  aliases: {},
  ignored: [],
  marks: ['body.0.rdb1.conv1.weight'],
}
