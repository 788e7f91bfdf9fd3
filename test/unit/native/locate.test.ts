import { describe, expect, it } from 'vitest'
import { loaderRemedy, outsideArchive, withoutPackage } from '../../../lib/native/locate.js'

describe('the path outside of an Electron archive', () => {
  it.each([
    ['/opt/app/resources/app.asar/node_modules/a.node', '/opt/app/resources/app.asar.unpacked/node_modules/a.node'],
    ['C:\\app\\resources\\app.asar\\a.node', 'C:\\app\\resources\\app.asar.unpacked\\a.node'],
    ['/opt/app/resources/app.asar.unpacked/a.node', '/opt/app/resources/app.asar.unpacked/a.node'],
    ['/project/node_modules/a.node', '/project/node_modules/a.node'],
  ])('of %s is %s', (file, outside) => {
    expect(outsideArchive(file)).toBe(outside)
  })
})

describe('a platform without a package', () => {
  it('is named, with the command that compiles', () => {
    expect(withoutPackage('freebsd-x64', undefined)).toBe(
      'there is no prebuilt ggflux for freebsd-x64; compile it with CMake, git and a C++ compiler: npx ggflux setup --from-source',
    )
    expect(withoutPackage('linux-x64', undefined)).toMatch(/needs glibc.*musl/)
  })

  it('is none of those that have one', () => {
    expect(withoutPackage('linux-x64', '2.36')).toBeUndefined()
    expect(withoutPackage('darwin-arm64', undefined)).toBeUndefined()
  })
})

describe('what the loader said', () => {
  it('names the needed glibc and systems that have it', () => {
    const said =
      "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /app/node_modules/@ggflux/linux-x64/ggflux.node)"
    expect(loaderRemedy(said)).toMatch(
      /^the prebuilt ggflux needs glibc 2\.34 or newer and this system has .*Debian 12/,
    )
  })

  it('names libstdc++, which is missing or too old', () => {
    for (const said of [
      'libstdc++.so.6: cannot open shared object file: No such file or directory',
      "/lib64/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /app/ggflux.node)",
    ])
      expect(loaderRemedy(said)).toMatch(/^libstdc\+\+ is missing or too old/)
  })

  it('is left as it is otherwise', () => {
    expect(loaderRemedy('file too short')).toBeUndefined()
  })
})
