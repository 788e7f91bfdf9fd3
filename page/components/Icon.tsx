/** A circle that its stroke fills. */
const dot = (x: number, y: number) => `M${x - 0.5} ${y}a.5.5 0 1 0 1 0a.5.5 0 1 0-1 0`

/** Strokes on a grid of 24 × 24. */
const PATHS = {
  add: 'M12 5v14M5 12h14',
  auto: 'M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16',
  brush: 'M20 4 10.5 13.5M8 13a3.5 3.5 0 0 0-3.5 3.5c0 1.5-.8 2.5-1.5 3.5h5a3.5 3.5 0 0 0 3.5-3.5A3.5 3.5 0 0 0 8 13z',
  check: 'm5 12.5 4.5 4.5L19 7',
  close: 'm6 6 12 12M18 6 6 18',
  copy: 'M9 9h11v11H9zM15 9V4H4v11h5',
  dice: `M5 5h14v14H5z${dot(9, 9)}${dot(15, 9)}${dot(12, 12)}${dot(9, 15)}${dot(15, 15)}`,
  download: 'M12 4v11M7.5 11 12 15.5 16.5 11M5 20h14',
  erase:
    'M9.5 19 4.5 14a1.5 1.5 0 0 1 0-2l7.5-7.5a1.5 1.5 0 0 1 2 0l5.5 5.5a1.5 1.5 0 0 1 0 2L12.5 19zM8.5 8.5l7 7M9.5 19H20',
  image: 'M4 5h16v14H4zM8.5 9.5v.01M4 16l4.5-4 4 3.5 3-2.5 4.5 4',
  invert: 'M4 4h16v16H4zM20 4 4 20M7 4v13M10.5 4v9.5M14 4v6M17.5 4v2.5',
  lock: 'M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3',
  moon: 'M19 14.5A7.5 7.5 0 0 1 9.5 5a7.5 7.5 0 1 0 9.5 9.5z',
  redo: 'm15 5 4.5 4.5L15 14M19.5 9.5H10a5 5 0 0 0 0 10h3',
  reset: 'M5 5v5h5M5.5 9.5a7.5 7.5 0 1 1-1 4.5',
  settings: 'M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4',
  sun: 'M12 8.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1M5.6 18.4l1.1-1.1M17.3 6.7l1.1-1.1',
  swap: 'M4 9h15M15.5 5.5 19 9M20 15H5M8.5 18.5 5 15',
  trash: 'M5 7h14M9.5 7V4.5h5V7M6.5 7l1 13h9l1-13M10.5 11v5.5M13.5 11v5.5',
  undo: 'M9 5 4.5 9.5 9 14M4.5 9.5H14a5 5 0 0 1 0 10h-3',
  unlock: 'M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.5-1.8',
  wait: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 7.5V12l3 2',
}

export type IconName = keyof typeof PATHS

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  )
}
