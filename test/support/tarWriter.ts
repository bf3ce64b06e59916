// Writes small tar archives (ustar), with any field made wrong on demand.

export interface TarFile {
  name: string;
  data: Uint8Array;
  /** '0' a plain file, '2' a symbolic link, '5' a folder. */
  type?: string;
  prefix?: string;
  claimedSize?: string;
  checksum?: string;
}

export function writeTar(files: readonly TarFile[], end = true): Buffer {
  const blocks = files.flatMap(({ name, data, type = '0', prefix = '', claimedSize, checksum }) => {
    const header = Buffer.alloc(512);
    header.write(name, 0, 100);
    header.write('0000644\0', 100);
    header.write(claimedSize ?? `${data.length.toString(8).padStart(11, '0')}\0`, 124);
    header.write(type, 156);
    header.write('ustar\x0000', 257);
    header.write(prefix, 345, 155);
    header.fill(' ', 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(checksum ?? `${sum.toString(8).padStart(6, '0')}\0 `, 148);
    const padding = Buffer.alloc((512 - (data.length % 512)) % 512);
    return [header, Buffer.from(data), padding];
  });
  return Buffer.concat(end ? [...blocks, Buffer.alloc(1024)] : blocks);
}
