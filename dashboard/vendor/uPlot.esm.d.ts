/** Its types are in the package that it was taken from. */
export { default } from "../../clients/javascript/node_modules/uplot/dist/uPlot.js";
