// Where a server's certificate lies, as configurations say it; apart from what reads it (certificate.ts), which needs Node.
import { z } from 'zod';

export const certificateFiles = z.strictObject({
  certFile: z.string().min(1).describe('PEM file of the certificate and its chain. Read again when it changes.'),
  keyFile: z.string().min(1).describe('PEM file of its private key.'),
});
export type CertificateFiles = z.infer<typeof certificateFiles>;
