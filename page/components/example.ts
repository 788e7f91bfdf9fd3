/** Suits the model 'tiny' and any other. */
export const EXAMPLE = 'a small red circle left of a large blue square on a white background'
