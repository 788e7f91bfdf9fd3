/**
 * The modes of InstantX's and Shakker's Union ControlNets for FLUX.1, by the rows of their embedding. The published
 * embedding has 10 rows; the rest are unused. ComfyUI's menu sends the numbers of SDXL's Union ControlNet instead.
 */
export const CONTROL_MODES = ['canny', 'tile', 'depth', 'blur', 'pose', 'gray', 'low-quality'] as const

export type ControlMode = (typeof CONTROL_MODES)[number]
