/** What other views show of jobs. */
export { Artifacts } from "./artifacts.js";
export { JobList } from "./list.js";
export { JobLog } from "./log.js";
