// Realtime services of a test's own: several instances, killed or asked to stop.
import { killServices, Service } from './service.mjs';

export const RealtimeService = { start: (options) => Service.start('realtime', options) };

export { killServices as killRealtimeServices };
