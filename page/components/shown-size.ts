/** How often an image is enlarged at most, so that a small one does not fill a large screen. */
const ENLARGEMENT = 4

/** For the class `shown`: the largest size of this aspect in its frame. */
export function shownSize(width: number, height: number): Record<string, string> {
  return { '--ratio': String(width / height), '--most': `${width * ENLARGEMENT}px` }
}
