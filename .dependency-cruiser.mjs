/** How the files of lib/ may import each other: `npm run lint:imports`. */

/** The rooms from the bottom up. A room imports only from those above it in this list. */
const LAYERS = [
  'errors[.]ts$',
  'version[.]ts$',
  'options/',
  'native/',
  'formats/',
  'tokenizers/',
  'sampling/',
  'images/',
  'networks/',
  'nn[.]ts$',
  'families/',
  'jobs/',
  'model/',
  'hub/',
  'cost/',
  'pipeline/',
  'inspect/',
  'tools/',
  'queue/',
  'index[.]ts$',
  'server/',
  'cli/',
]

/** What users import or run, and the program of a child process. */
const ENTRIES = ['index', 'nn', 'server/index', 'cli/main', 'pipeline/engine-process'].map(
  (name) => `^lib/${name}[.]ts$`,
)

export default {
  forbidden: [
    {
      name: 'known-rooms',
      comment: 'A new room has its place in LAYERS (.dependency-cruiser.mjs).',
      severity: 'error',
      from: { path: '^lib/', pathNot: LAYERS.map((room) => `^lib/${room}`) },
      to: {},
    },
    ...LAYERS.map((room, i) => ({
      name: `downwards-from-${room.replace(/\W.*/, '')}`,
      comment: 'The import leads to a room further up: move what both need down, or pass it in.',
      severity: 'error',
      from: { path: `^lib/${room}` },
      to: { path: LAYERS.slice(i + 1).map((above) => `^lib/${above}`) },
    })).slice(0, -1),
    {
      name: 'no-cycles',
      comment: 'Files that import each other, be it only for types, cannot be understood or moved one at a time.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-unresolvable',
      comment: 'The import leads to no file and no installed package.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-orphans',
      comment: 'No entry point needs the file: delete it or import it.',
      severity: 'error',
      from: { path: ENTRIES },
      to: { path: '^lib/', pathNot: ENTRIES, reachable: false },
    },
    {
      name: 'only-dependencies',
      comment: 'What users install has to be among the dependencies, or among the optional peers.',
      severity: 'error',
      from: {},
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'],
        dependencyTypesNot: ['npm-peer', 'npm-optional'],
      },
    },
  ],
  options: {
    parser: 'swc',
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
}
